// Seven tabs of one browser, each of which follows twenty channels by one stream. Over HTTP/2, because a browser opens no more
// than six connections to a host otherwise, in all of its tabs together.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { ADMIN, Stentor, until } from "../clients/stentor.mjs";
import { launch } from "./dashboard.mjs";

const TABS = 7;
const CHANNELS = 40;
const FOLLOWED = 20;
const ROUNDS = 20;

// the certificate is made for this run
process.env.NODE_TLS_REJECT_UNAUTHORIZED = "0";

let folder;
let server;
let browser;
before(async () => {
  folder = mkdtempSync(join(tmpdir(), "stentor-tabs-"));
  const [cert, key] = ["cert.pem", "key.pem"].map((name) => join(folder, name));
  const subject = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"];
  execFileSync("openssl", ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-keyout", key, "-out", cert, ...subject], { stdio: "ignore" });
  server = await Stentor.start([], { "server.tls.cert": cert, "server.tls.key": key });
  server.url = server.url.replace("http:", "https:");
  browser = await launch();
});
after(async () => {
  await browser?.close();
  await server?.stop();
  rmSync(folder, { recursive: true, force: true });
});

/** A tab that follows the channels from where it opens. */
async function follow(context, token, channels) {
  const page = await context.newPage();
  await page.goto(`${server.url}/`);
  await page.evaluate(async (options) => {
    const { EventStream } = await import("/stentor.js");
    const got = { ids: [], opened: 0, errors: [] };
    const stream = new EventStream({ server: location.origin, ...options });
    stream.addEventListener("open", () => (got.opened += 1));
    stream.addEventListener("event", ({ id }) => got.ids.push(id));
    stream.addEventListener("error", ({ status, final }) => got.errors.push({ status, final }));
    window.got = got;
  }, { token, channels });
  return { page, got: () => page.evaluate(() => window.got) };
}

test("seven tabs follow twenty channels each by one stream, and a token that is revoked closes only its own", async (t) => {
  const context = await browser.newContext({ ignoreHTTPSErrors: true });
  context.setDefaultTimeout(15_000);
  t.after(() => context.close());
  const maps = [];
  for (let n = 0; n < CHANNELS; n += 1) maps.push(await server.map(`tab-${n}`));
  const tabs = [];
  for (let n = 0; n < TABS; n += 1) {
    const followed = Array.from({ length: FOLLOWED }, (_, at) => (n * 5 + at) % CHANNELS);
    const channels = followed.map((at) => `map:${maps[at].id}`);
    const { data } = await server.call("POST", "/api/v1/tokens", ADMIN, { channels, scopes: ["subscribe"] });
    tabs.push({ followed: new Set(followed), token: data, ...(await follow(context, data.token, channels)) });
  }
  for (const { got } of tabs) await until("it is open", async () => (await got()).opened === 1);
  const { data: connections } = await server.call("GET", "/api/v1/connections", ADMIN);
  assert.deepEqual(connections.map(({ channels }) => channels.length), Array(TABS).fill(FOLLOWED), "one stream each");

  const published = [];
  const publish = async (rounds) => {
    for (let round = 0; round < rounds; round += 1) {
      await Promise.all([0, 1, 2, 3].map(async (part) => {
        for (let at = part; at < CHANNELS; at += 4) {
          const ids = await server.publish(maps[at], { type: "map_kill", payload: { at, round } });
          published.push(...ids.map((id) => ({ id: `evt_${id}`, at })));
        }
      }));
    }
  };
  await publish(ROUNDS);
  const [revoked] = tabs.splice(3, 1);
  const before = published.length;
  await fetch(`${server.url}/api/v1/tokens/${revoked.token.id}`, { method: "DELETE", headers: { Authorization: `Bearer ${ADMIN}` } });
  await until("its stream has ended for good", async () => (await revoked.got()).errors.some(({ final }) => final));
  await publish(ROUNDS);

  const wanted = ({ followed }, events) => events.filter(({ at }) => followed.has(at)).map(({ id }) => id).sort();
  for (const tab of tabs) {
    const expected = wanted(tab, published);
    await until("it has every event", async () => (await tab.got()).ids.length >= expected.length);
    const { ids, opened, errors } = await tab.got();
    assert.deepEqual(ids, expected, "its own, in one order, each once");
    assert.deepEqual({ opened, errors }, { opened: 1, errors: [] }, "nobody else's end was felt");
  }
  const { ids, errors } = await revoked.got();
  assert.deepEqual(ids, wanted(revoked, published.slice(0, before)));
  assert.equal(errors.at(-1).status, 401);
});
