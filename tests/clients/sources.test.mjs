// Senders as the document of the sources family writes them: its curl, its snippet for Node, a batch.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import crypto from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { pathToFileURL } from "node:url";
import { Stentor, until } from "./stentor.mjs";

let server;
before(async () => (server = await Stentor.start()));
after(() => server.stop());

/** A source of a new map. */
async function source(slug, options) {
  const map = await server.map(slug);
  const { endpoint, secret } = await server.call("POST", "/api/webhooks", map.token, options);
  return { map, url: endpoint.url, endpoint, secret };
}

/** The events of the map, as the history writes them. */
const events = async (map) => (await server.history(map)).map((line) => JSON.parse(line));

/** The document's way to send a signed request. */
function send(webhookUrl, event, secretKey, timestamp = Date.now().toString()) {
  const payload = JSON.stringify(event);
  const signature = crypto.createHmac("sha256", secretKey).update(`${timestamp}.${payload}`).digest("hex");
  return fetch(webhookUrl, {
    method: "POST",
    headers: {
      "Content-Type": "application/json",
      "X-Webhook-Timestamp": timestamp,
      "X-Webhook-Signature": `sha256=${signature}`,
    },
    body: payload,
    signal: AbortSignal.timeout(10_000),
  });
}

test("the curl of the document's section on testing is taken", async () => {
  const { map, url } = await source("curl", { name: "Game Server Events", authentication: "api_key", apiKey: "your-api-key" });
  const body = '{"event_type": "test", "user_id": "test_user"}';
  const flags = ["-X", "POST", url, "-H", "Content-Type: application/json", "-H", "X-API-Key: your-api-key", "-d", body];
  const curl = spawnSync("curl", ["-sS", "-w", "\n%{http_code}", ...flags], { encoding: "utf8", timeout: 10_000 });
  const [answer, status] = curl.stdout.trimEnd().split("\n");
  assert.equal(status, "200", curl.stderr + curl.stdout);
  const { accepted, ids } = JSON.parse(answer);
  assert.equal(accepted, 1);
  const [event] = await events(map);
  assert.equal(`evt_${event.id}`, ids[0]);
  assert.equal(event.type, "test");
  assert.equal(event.payload.user_id, "test_user");
});

test("the snippet of the document signs what is taken, and the same request is answered again", async () => {
  const options = { name: "Game Server Events", authentication: "hmac", secretKey: "your-secret-key", hmacAlgorithm: "sha256" };
  const { map, url, endpoint, secret } = await source("snippet", options);
  assert.equal(secret, undefined, "a key that was given is not shown again");
  const event = {
    event_type: "purchase",
    timestamp: "2024-01-15T10:30:00Z",
    user_id: "user_123",
    properties: { item_id: "sword_001", amount: 9.99, currency: "USD", note: "ä 🚀 \u2028" },
  };
  const timestamp = Date.now().toString();
  const first = await send(url, event, "your-secret-key", timestamp);
  assert.equal(first.status, 200);
  const answer = await first.json();
  const again = await send(url, event, "your-secret-key", timestamp);
  assert.deepEqual(await again.json(), answer);
  assert.equal(again.headers.get("idempotency-replayed"), "true");
  const stored = await events(map);
  assert.equal(stored.length, 1);
  assert.deepEqual(stored[0].payload, { user_id: "user_123", properties: event.properties, source: endpoint.id });
  assert.equal(stored[0].timestamp, "2024-01-15T10:30:00.000Z");
  assert.equal((await send(url, event, "another-key")).status, 401);
});

test("a batch is taken as a whole, or refused with each place that is wrong", async () => {
  const { map, url, secret } = await source("batch", { authentication: "hmac" });
  const batch = {
    events: [
      { event_type: "level_complete", user_id: "user_123" },
      { event_type: "level_start", user_id: "user_123" },
    ],
  };
  const good = await send(url, batch, secret);
  assert.equal((await good.json()).accepted, 2);
  const bad = await send(url, { events: [...batch.events, { user_id: "user_123" }] }, secret);
  assert.equal(bad.status, 400);
  const { details } = await bad.json();
  assert.deepEqual(details.map(({ index, field }) => [index, field]), [[2, "event_type"]]);
  assert.deepEqual((await events(map)).map(({ type }) => type), ["level_complete", "level_start"]);
});

test("the adapter makes an endpoint, hears what senders send, and comes back to where it was", async (t) => {
  const folder = mkdtempSync(join(tmpdir(), "stentor-adapter-"));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const copy = join(folder, "stentor.mjs");
  writeFileSync(copy, await (await fetch(`${server.url}/stentor.js`)).text());
  const { WebhookAdapter } = await import(pathToFileURL(copy));
  const map = await server.map("adapter");
  const adapter = new WebhookAdapter({ server: server.url, token: map.token });
  t.after(() => adapter.stop());
  const endpoint = await adapter.createEndpoint({ name: "Game Server Events", authentication: "hmac", secretKey: "your-secret-key" });
  const heard = [];
  adapter.on("event", (event) => heard.push(event.properties.n));
  adapter.on("error", (error) => t.diagnostic(error.message));
  await adapter.connect({ endpointId: endpoint.id, retry: { enabled: true, maxRetries: 3, initialDelay: 10, backoffMultiplier: 2 } });
  await adapter.startListening();
  for (let n = 0; n < 5; n += 1) {
    const sent = () => send(endpoint.url, { event_type: "purchase", user_id: "u", properties: { n } }, "your-secret-key").catch(() => null);
    await until(`event ${n} is taken`, async () => (await sent())?.status === 200);
    await until(`event ${n} is heard`, () => heard.includes(n));
    if (n === 2) await server.restart("SIGKILL");
  }
  assert.deepEqual(heard, [0, 1, 2, 3, 4]);
});
