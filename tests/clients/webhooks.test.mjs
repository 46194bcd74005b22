// Receivers as people write them: the Express code of the maps document and the libraries of Standard Webhooks.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { after, before, test } from "node:test";
import { Webhook } from "standardwebhooks";
import receivers from "./receiver.cjs";
import { Stentor, until } from "./stentor.mjs";

let server;
before(async () => (server = await Stentor.start(["--dev"])));
after(() => server.stop());

/** A map with a receiver that the document's code stands behind. */
async function subscribed(slug, more = {}) {
  const map = await server.map(slug);
  map.webhooks = `/api/maps/${slug}/webhooks`;
  const toggled = await server.call("PUT", `${map.webhooks}/toggle`, map.token, { enabled: true });
  assert.deepEqual(toggled, { webhooks_enabled: true });
  const receiver = await receivers.receiver();
  const { data } = await server.call("POST", map.webhooks, map.token, {
    url: receiver.url,
    events: ["*"],
    active: true,
    ...more,
  });
  receiver.setSecret(data.secret);
  return { map, receiver, webhook: data };
}

/** JSON as no serialiser writes it, and what JavaScript makes of it. */
const NASTY = [
  '{"value":1.0,"big":2.5e8,"small":1e-7,"tiny":5e-324,"zero":-0.0,"int":9007199254740991,"huge":1e21}',
  '{"name":"😀 \\u2028 \\u2029 \\ud83d\\ude80 é \\u0000\\u001f\\u007f \\/ \\" \\\\"}',
  '{"10":1,"2":2,"b":3,"01":4,"a":5,"4294967294":6,"4294967295":7,"-1":8,"":9}',
  '{"__proto__x":1,"constructor":2,"toString":3,"n":null,"t":true,"e":[],"o":{}}',
  `{"deep":${"[".repeat(60)}1.50${"]".repeat(60)}}`,
  `{"deep":${'{"a":'.repeat(60)}"<&>"${"}".repeat(60)}}`,
  `{"long":"${"ä".repeat(20_000)}"}`,
  '  {  "spaced"  :  [ 1 , 2.50 , 3e0 ]  }  ',
];

test("the document's receiver accepts every type of the catalogue", async () => {
  const { map, receiver } = await subscribed("catalogue");
  const { data: types } = await server.call("GET", "/api/event-types?family=maps", map.token);
  const events = types.map(({ type, example }) => ({ type, payload: example.payload ?? example }));
  assert.ok(events.length >= 24);
  const ids = await server.publish(map, { events });
  await until(() => `all arrive; refused: ${JSON.stringify(receiver.refused)}`, () => receiver.verified.length >= ids.length);
  assert.deepEqual(receiver.verified.map((event) => event.id).sort(), ids);
  assert.deepEqual(new Set(receiver.verified.map((event) => event.type)), new Set(types.map(({ type }) => type)));
  assert.deepEqual(receiver.refused, []);
  receiver.close();
});

test("the document's receiver and both libraries of Standard Webhooks accept nasty payloads", async () => {
  const { map, receiver, webhook } = await subscribed("nasty");
  for (const payload of NASTY) await server.publish(map, `{"type":"add_system","payload":${payload}}`);
  await until(() => `all arrive; refused: ${JSON.stringify(receiver.refused)}`, () => receiver.verified.length >= NASTY.length);
  assert.deepEqual(receiver.refused, []);
  const history = await server.history(map);
  assert.deepEqual(receiver.raw.map(({ body }) => body).sort(), history.sort(), "bodies are the bytes of the history");
  const library = new Webhook(`whsec_${webhook.secret}`);
  for (const { headers, body } of receiver.raw) {
    assert.equal(library.verify(body, headers).map_id, map.id);
    assert.throws(() => library.verify(`${body} `, headers));
  }
  const python = spawnSync(".venv/bin/python", ["-B", "verify_webhooks.py"], {
    input: JSON.stringify({ secret: `whsec_${webhook.secret}`, deliveries: receiver.raw }),
    encoding: "utf8",
    timeout: 20_000,
  });
  assert.equal(python.stdout.trim(), `verified ${NASTY.length}`, python.stderr);
  receiver.close();
});

test("the headers of a delivery are those of the document, and one delivery has one id", async () => {
  const { map, receiver, webhook } = await subscribed("headers", { custom_headers: { "X-Tenant": "a" } });
  await server.publish(map, { type: "map_kill", payload: { value: 1 } });
  await until("it arrives", () => receiver.raw.length > 0);
  const { headers } = receiver.raw[0];
  assert.equal(headers["x-wanderer-version"], "1");
  assert.equal(headers["x-wanderer-event"], "map_kill");
  assert.equal(headers["x-wanderer-attempt"], "1");
  assert.match(headers["x-wanderer-timestamp"], /^\d{10}$/);
  assert.match(headers["user-agent"], /^Stentor\//);
  assert.equal(headers["content-type"], "application/json");
  assert.equal(headers["x-tenant"], "a");
  assert.equal(headers["x-wanderer-signature-previous"], undefined);
  const { data } = await server.call("GET", `${map.webhooks}/${webhook.id}/deliveries`, map.token);
  assert.equal(data[0].id, headers["x-wanderer-delivery"]);
  receiver.close();
});

test("a receiver that knows only the old secret verifies during a rotation's overlap", async () => {
  const { map, receiver, webhook } = await subscribed("rotation");
  const path = `${map.webhooks}/${webhook.id}/rotate-secret`;
  const { data } = await server.call("POST", path, map.token, { grace_seconds: 3600 });
  receiver.setSecret(data.secret);
  await server.publish(map, { type: "map_kill", payload: {} });
  await until("it is verified with the new secret", () => receiver.verified.length === 1);
  const [{ headers, body }] = receiver.raw;
  assert.equal(headers["webhook-signature"].split(" ").length, 2);
  assert.ok(headers["x-wanderer-signature-previous"]);
  for (const secret of [webhook.secret, data.secret]) new Webhook(`whsec_${secret}`).verify(body, headers);
  const ended = await server.call("POST", path, map.token, { grace_seconds: 0 });
  receiver.setSecret(ended.data.secret);
  await server.publish(map, { type: "map_kill", payload: {} });
  await until("it is verified with the newest secret", () => receiver.verified.length === 2);
  assert.equal(receiver.raw[1].headers["webhook-signature"].split(" ").length, 1);
  assert.equal(receiver.raw[1].headers["x-wanderer-signature-previous"], undefined);
  receiver.close();
});
