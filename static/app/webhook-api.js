// Webhooks in one shape, whichever family the channel is of. The server names fields of maps in snake case and those
// of organizations in camel case; views know the latter.
import { call, channelName, isAdmin, query } from "./api.js";

const camel = (name) => name.replace(/_([a-z])/g, (_, letter) => letter.toUpperCase());
const snake = (name) => name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
const renamed = (object, rename) => Object.fromEntries(Object.entries(object).map(([name, value]) => [rename(name), value]));

/** The parts of a webhook whose own fields are named by the family too. */
const PARTS = ["batch", "rateLimit"];

function read(of, data) {
  const hook = renamed(data, camel);
  for (const part of PARTS) if (hook[part]) hook[part] = renamed(hook[part], camel);
  return { ...hook, insertedAt: hook.insertedAt ?? hook.createdAt, events: hook.events ?? ["*"], pathPrefix: [hook.pathPrefix ?? []].flat(), customHeaders: hook.customHeaders ?? {}, of };
}

function written(of, spec) {
  if (of.kind !== "map") return spec;
  const body = renamed(spec, snake);
  for (const part of PARTS.map(snake)) if (body[part]) body[part] = renamed(body[part], snake);
  return body;
}

function address(of, path = "", pairs = {}) {
  if (of.kind === "map") return `/api/maps/${encodeURIComponent(of.id)}/webhooks${path}${query(pairs)}`;
  // a token has its own channel; the admin says which one is meant
  return `/api/v1/webhooks${path}${query({ ...pairs, ...(isAdmin() ? { channel: channelName(of) } : {}) })}`;
}

const at = (hook, path = "", pairs) => address(hook.of, `/${encodeURIComponent(hook.id)}${path}`, pairs);

export async function listWebhooks(of) {
  const found = [];
  let after = null;
  do {
    const page = await call("GET", address(of, "", { after }));
    found.push(...page.data);
    after = page.nextCursor ?? null;
  } while (after && found.length < 1000);
  return found.map((data) => read(of, data));
}

export const getWebhook = async (of, id) => read(of, (await call("GET", address(of, `/${encodeURIComponent(id)}`))).data);

/** @returns the webhook, with its `secret` this once */
export const createWebhook = async (of, spec) => read(of, (await call("POST", address(of), written(of, spec))).data);
export const changeWebhook = async (hook, spec) => read(hook.of, (await call("PATCH", at(hook), written(hook.of, spec))).data);
export const deleteWebhook = (hook) => call("DELETE", at(hook));

/** What a webhook of this kind would send for an event of a type. */
export const previewWebhook = async (of, spec, eventType) => (await call("POST", address(of, "/preview"), { ...written(of, spec), [of.kind === "map" ? "event_type" : "eventType"]: eventType || undefined })).data;

/** What such a webhook would have sent of the events since a time, beside what `before` has sent; nothing is sent. */
export const rehearse = (of, spec, { since, limit }) => call("POST", address(of, "/preview"), { ...written(of, spec), since, limit });

/** An answer with the names that views know; those of headers and payloads are left alone. */
function plain(data) {
  const made = renamed(data, camel);
  return made.timings ? { ...made, timings: renamed(made.timings, camel) } : made;
}

export const rotateSecret = async (hook, graceSeconds) => plain((await call("POST", at(hook, "/rotate-secret"), written(hook.of, { graceSeconds }))).data);
export const testWebhook = async (hook, eventType) => plain((await call("POST", at(hook, "/test"), written(hook.of, eventType ? { eventType } : {}))).data);

function delivery(data) {
  const made = plain(data);
  return made.attempts ? { ...made, attempts: made.attempts.map(plain) } : made;
}

/** @param wanted `{ status, type, code, since, until, text, limit, after }`; what is absent is no condition */
export async function deliveries(hook, wanted = {}) {
  const page = await call("GET", at(hook, "/deliveries", wanted));
  return { data: page.data.map(delivery), next: page.next ?? page.nextCursor ?? null };
}

export const getDelivery = async (hook, id) => delivery((await call("GET", at(hook, `/deliveries/${encodeURIComponent(id)}`))).data);
export const retryDelivery = (hook, id) => call("POST", at(hook, `/deliveries/${encodeURIComponent(id)}/retry`), {});

/** Counts with `dryRun`, else starts the job. */
export const replay = async (hook, { dryRun, ...range }) => plain((await call("POST", at(hook, "/replay"), written(hook.of, { ...range, ...(dryRun ? { dryRun: true } : {}) }))).data);
export const replayJob = async (hook, job) => plain((await call("GET", at(hook, `/replays/${encodeURIComponent(job)}`))).data);
