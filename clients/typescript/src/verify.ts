/** Checks that what a webhook brought was sent by the server that knows the secret. Needs Web Crypto: browsers, Node 20, workers. */

/** The request was not signed with this secret, or too long ago. Answer it with 401. */
export class InvalidSignature extends Error {
  override name = "InvalidSignature";
}

export type SignatureFormat = "map" | "standard" | "gateway" | "feed";

export interface VerifyOptions {
  /** The raw body: what arrived, before anything parsed it. */
  body: Uint8Array<ArrayBuffer> | string;
  headers: Headers | Record<string, string | string[] | undefined>;
  secret: string;
  /** Left out, the headers tell; those with a time in the signature are preferred. */
  format?: SignatureFormat;
  /** How far the time of a signature may be from now: 300. */
  toleranceS?: number;
  /** Unix seconds. */
  nowS?: number;
}

/** Signatures of one header that are looked at; it comes from outside. */
const SIGNATURES_MAX = 16;
const ENCODER = new TextEncoder();

/** Gives the body as text when it is genuine. `gateway` and `feed` have no time in their signature, so they cannot tell a repetition.
 * @throws {InvalidSignature} */
export async function verifyWebhook(options: VerifyOptions): Promise<string> {
  const { secret, toleranceS = 300, nowS = Date.now() / 1000 } = options;
  const body = typeof options.body === "string" ? ENCODER.encode(options.body) : options.body;
  const header = reader(options.headers);
  const present = (name: string) => {
    const value = header(name);
    if (!value) throw new InvalidSignature(`the header ${name} is missing`);
    return value;
  };
  const recent = (name: string) => {
    const text = present(name);
    if (!/^\d{1,12}$/.test(text)) throw new InvalidSignature(`the header ${name} is no time in seconds`);
    if (Math.abs(nowS - Number(text)) > toleranceS) throw new InvalidSignature(`the signature is more than ${toleranceS} s from now; is the clock right?`);
    return text;
  };
  const format = options.format ?? formatOf(header);
  switch (format) {
    case "map": {
      const at = recent("x-wanderer-timestamp");
      const wanted = `sha256=${hex(await mac("SHA-256", ENCODER.encode(secret), ENCODER.encode(`${at}.`), body))}`;
      oneOf(wanted, [header("x-wanderer-signature"), header("x-wanderer-signature-previous")]);
      break;
    }
    case "standard": {
      const at = recent("webhook-timestamp");
      const signed = ENCODER.encode(`${present("webhook-id")}.${at}.`);
      const wanted = `v1,${base64(await mac("SHA-256", standardKey(secret), signed, body))}`;
      oneOf(wanted, present("webhook-signature").split(" ").slice(0, SIGNATURES_MAX));
      break;
    }
    case "gateway":
      oneOf(hex(await mac("SHA-512", ENCODER.encode(secret), body)), [present("x-webhook-hmac")]);
      break;
    case "feed":
      oneOf(`sha256=${hex(await mac("SHA-256", ENCODER.encode(secret), body))}`, [present("x-aeordb-signature")]);
      break;
    default:
      throw new TypeError("format must be map, standard, gateway or feed");
  }
  return new TextDecoder().decode(body);
}

function reader(headers: VerifyOptions["headers"]): (name: string) => string | undefined {
  if (headers instanceof Headers) return (name) => headers.get(name) ?? undefined;
  const lower = new Map(Object.entries(headers).map(([name, value]) => [name.toLowerCase(), value]));
  return (name) => {
    const value = lower.get(name);
    return Array.isArray(value) ? value[0] : value;
  };
}

function formatOf(header: (name: string) => string | undefined): SignatureFormat {
  if (header("x-wanderer-signature")) return "map";
  if (header("webhook-signature")) return "standard";
  if (header("x-webhook-hmac")) return "gateway";
  if (header("x-aeordb-signature")) return "feed";
  throw new InvalidSignature("the request has no signature of Stentor; is the secret set on the webhook?");
}

function standardKey(secret: string): Uint8Array<ArrayBuffer> {
  let key = new Uint8Array();
  try {
    key = Uint8Array.from(atob(secret.replace(/^whsec_/, "")), (char) => char.charCodeAt(0));
  } catch {
    // told below
  }
  if (key.length < 24 || key.length > 64) throw new InvalidSignature("the secret is no key of Standard Webhooks: base64 of 24 to 64 bytes");
  return key;
}

async function mac(hash: string, key: Uint8Array<ArrayBuffer>, ...parts: Uint8Array<ArrayBuffer>[]): Promise<Uint8Array> {
  const all = new Uint8Array(parts.reduce((length, part) => length + part.length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  const imported = await crypto.subtle.importKey("raw", key, { name: "HMAC", hash }, false, ["sign"]);
  return new Uint8Array(await crypto.subtle.sign("HMAC", imported, all));
}

const hex = (bytes: Uint8Array) => Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
const base64 = (bytes: Uint8Array) => btoa(String.fromCharCode(...bytes));

function oneOf(wanted: string, given: (string | undefined)[]): void {
  // each is compared in a time that does not depend on where they differ
  const matches = given.map((text) => isSame(wanted, text ?? ""));
  if (!matches.includes(true)) throw new InvalidSignature("the signature is another one: another secret, or a body that was changed on its way");
}

function isSame(a: string, b: string): boolean {
  if (a.length !== b.length) return false;
  let different = 0;
  for (let at = 0; at < a.length; at += 1) different |= a.charCodeAt(at) ^ b.charCodeAt(at);
  return different === 0;
}
