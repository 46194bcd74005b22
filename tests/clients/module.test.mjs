// stentor.js in Node: against the real server, and against one that misbehaves as networks and proxies do.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { createHmac } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { fileURLToPath, pathToFileURL } from "node:url";
import { ADMIN, Publisher, Stentor, until } from "./stentor.mjs";

let server;
let folder;
let EventStream;
let WebhookAdapter;
before(async () => {
  server = await Stentor.start();
  // what the server serves is what is tested; a copy, because Node imports no http: addresses
  const served = await fetch(`${server.url}/stentor.js`);
  assert.match(served.headers.get("content-type"), /^text\/javascript/);
  folder = mkdtempSync(join(tmpdir(), "stentor-module-"));
  const copy = join(folder, "stentor.mjs");
  writeFileSync(copy, await served.text());
  ({ EventStream, WebhookAdapter } = await import(pathToFileURL(copy)));
});
after(async () => {
  rmSync(folder, { recursive: true, force: true });
  await server.stop();
});

/** A stream that is closed when the test ends, and what it dispatched. */
function follow(t, options) {
  const stream = new EventStream({ server: server.url, ...options });
  const got = { stream, events: [], opened: [], gaps: [], errors: [] };
  stream.addEventListener("event", (event) => got.events.push(event));
  stream.addEventListener("open", (event) => got.opened.push(event.detail));
  stream.addEventListener("gap", (event) => got.gaps.push(event.detail));
  stream.addEventListener("error", (event) => got.errors.push(event));
  t.after(() => stream.close());
  return got;
}

test("the types of the module hold when tsc checks them strictly", () => {
  const tsc = fileURLToPath(new URL("node_modules/typescript/bin/tsc", import.meta.url));
  // in its parts, as the package has it, and joined, as a page loads it
  const parts = fileURLToPath(new URL("../../static/stentor/index.js", import.meta.url));
  const options = "--noEmit --allowJs --checkJs --strict --target es2022 --module esnext --moduleResolution bundler --lib es2022,dom,dom.iterable --types";
  try {
    execFileSync(process.execPath, [tsc, ...options.split(" "), "", parts, join(folder, "stentor.mjs")], { encoding: "utf8" });
  } catch (error) {
    assert.fail(error.stdout);
  }
});

test("EventStream loses and repeats no event when the server is killed, and when it is stopped, while events come in", async (t) => {
  const own = await Stentor.start();
  t.after(() => own.stop());
  const map = await own.map("module");
  const got = follow(t, { server: own.url, token: map.token, channel: "map:module" });
  await until("it is open", () => got.opened.length === 1);
  const publisher = new Publisher(own, map);
  for (const [round, signal] of ["SIGKILL", "SIGTERM", "SIGKILL"].entries()) {
    await publisher.more(30);
    await own.restart(signal);
    await until(`it is open again after ${signal}`, () => got.opened.length > round + 1);
  }
  await publisher.more(30);
  const total = await publisher.stop();
  const stored = await own.history(map);
  await until(() => `${total} events are there: ${got.events.length}`, () => got.events.length >= total);
  assert.deepEqual(got.events.map((event) => event.data), stored);
  assert.deepEqual(got.events.map((event) => event.id), stored.map((text) => JSON.parse(text).id));
  assert.deepEqual(got.events.map((event) => JSON.stringify(event.detail)), stored);
  assert.ok(got.opened.slice(1).every((detail) => detail.resumed));
  assert.ok(got.errors.every((event) => !event.final && event.retryInMs > 0));
  assert.equal(got.stream.lastEventId, got.events.at(-1).id);
});

test("EventStream gives only what passes its filter, and goes on after an id", async (t) => {
  const map = await server.map("filter");
  const body = (type, path, value) => ({ type, payload: { path, value } });
  const ids = await server.publish(map, [
    body("map_kill", "/a/1", 1), body("map_kill", "/a/2", 20), body("map_kill", "/b/1", 30), body("add_system", "/a/3", 40),
  ]);
  const options = { token: () => Promise.resolve(map.token), channel: `map:${map.id}`, lastEventId: ids[0] };
  const all = follow(t, options);
  const some = follow(t, { ...options, events: ["map_kill", "odd"], pathPrefix: ["/a/", "/c/"], filter: "event.payload.value > 10" });
  const none = follow(t, { ...options, events: [] });
  await until("the streams are there", () => all.events.length === 3 && some.events.length === 1 && none.opened.length === 1);
  await server.publish(map, body("map_kill", "/a/9", 50));
  await until("the live event is there", () => all.events.length === 4 && some.events.length === 2);
  assert.deepEqual(some.events.map((event) => event.detail.payload.value), [20, 50]);
  assert.deepEqual(some.opened[0].unknown_events, ["odd"]);
  assert.deepEqual(none.events, []);
});

test("EventStream says when events are gone", async (t) => {
  const map = await server.map("gap");
  const got = follow(t, { token: map.token, channel: "map:gap", lastEventId: "7ZZZZZZZZZZZZZZZZZZZZZZZZZ" });
  await until("the gap is announced", () => got.gaps.length === 1);
  assert.equal(got.gaps[0].reason, "ahead");
});

test("EventStream ends for good when it is refused, and says why", async (t) => {
  const map = await server.map("refused");
  const { data: publisher } = await server.call("POST", "/api/v1/tokens", map.token, { channel: `map:${map.id}`, scopes: ["publish"] });
  const channel = "map:refused";
  const cases = [
    [401, { token: "st_wrong", channel }],
    [403, { token: publisher.token, channel }],
    [404, { token: map.token, channel: "map:nowhere" }],
    [400, { token: map.token, channel, filter: "event.type ==" }],
    [400, { token: map.token, channel, lastEventId: "not an id" }],
  ];
  for (const [status, options] of cases) {
    const got = follow(t, options);
    await until(`${status} arrives`, () => got.errors.length === 1);
    const [error] = got.errors;
    assert.equal(error.status, status);
    assert.ok(error.final && error.message.length > 10, error.message);
    assert.equal(got.stream.state, "closed");
    assert.equal(got.opened.length, 0);
  }
});

test("EventStream ends for good when its token is revoked", async (t) => {
  const map = await server.map("revoked");
  const { data } = await server.call("POST", "/api/v1/tokens", map.token, { channel: `map:${map.id}`, scopes: ["subscribe"] });
  const got = follow(t, { token: data.token, channel: "map:revoked" });
  await until("it is open", () => got.opened.length === 1);
  await fetch(`${server.url}/api/v1/tokens/${data.id}`, { method: "DELETE", headers: { Authorization: `Bearer ${map.token}` } });
  await until("it has ended", () => got.stream.state === "closed");
  assert.equal(got.errors.at(-1).status, 401);
});

test("EventStream follows several channels in one order, also those that are made later, and resumes", async (t) => {
  const first = await server.map("several-1");
  const other = await server.map("several-2");
  const acme = await server.organization("several-3");
  const { data } = await server.call("POST", "/api/v1/tokens", ADMIN, { channels: ["map:several-1", "organization:*"], scopes: ["subscribe"] });
  const got = follow(t, { token: data.token, channels: ["map:several-1", "organization:*"] });
  const all = follow(t, { token: data.token, channel: "feed" });
  await until("both are open", () => got.opened.length === 1 && all.opened.length === 1);
  const late = await server.organization("several-4");
  const ids = [];
  for (const of of [first, acme, late, first, late]) {
    await server.publish(other, { type: "map_kill" });
    ids.push(...(await server.publish(of, { type: "map_kill" })).map((id) => (id.startsWith("evt_") ? id : `evt_${id}`)));
  }
  for (const { events } of [got, all]) {
    await until("all have come", () => events.length >= ids.length);
    assert.deepEqual(events.map(({ id }) => id), ids);
  }
  const resumed = follow(t, { token: data.token, channels: ["organization:several-4", "map:several-1"], lastEventId: ids[1] });
  await until("the rest has come", () => resumed.events.length >= 3);
  assert.deepEqual(resumed.events.map(({ id }) => id), ids.slice(2));
  const refused = follow(t, { token: data.token, channels: ["map:several-1", "map:several-2"] });
  await until("it is refused", () => refused.errors.length === 1);
  assert.equal(refused.errors[0].status, 404);
});

test("EventStream refuses options that mean nothing, when it is made", () => {
  const good = { server: "http://127.0.0.1:1", token: "x", channel: "feed" };
  const several = [{ channels: ["map:x"] }, { channel: undefined, channels: [] }, { channel: undefined, channels: "map:x" }];
  for (const bad of [{ server: undefined }, { server: "ftp://x" }, { token: "" }, { channel: "maps:x" }, { channel: undefined }, ...several]) {
    assert.throws(() => new EventStream({ ...good, ...bad }), TypeError);
  }
});

/** A server that answers as it is told: `tickets` and `streams` are called with the number of the request. */
async function odd(t, { ticket = () => null, stream }) {
  const seen = { tickets: [], streams: [], open: new Set() };
  const http = createServer((request, response) => {
    const url = new URL(request.url, "http://x");
    request.resume();
    if (request.method === "POST") {
      seen.tickets.push(Date.now());
      if (ticket(seen.tickets.length, response)) return;
      response.writeHead(201, { "Content-Type": "application/json" });
      response.end(JSON.stringify({ data: { ticket: `t${seen.tickets.length}` } }));
    } else {
      seen.streams.push(url.searchParams);
      seen.open.add(response);
      response.on("close", () => seen.open.delete(response));
      stream(seen.streams.length, response, request);
    }
  });
  await new Promise((resolve) => http.listen(0, "127.0.0.1", resolve));
  t.after(() => {
    http.closeAllConnections();
    http.close();
  });
  return { url: `http://127.0.0.1:${http.address().port}`, seen };
}

const begin = (response, retry = 20) => {
  response.writeHead(200, { "Content-Type": "text/event-stream; charset=utf-8" });
  response.write(`event: connected\nid: 00\nretry: ${retry}\ndata: {"resumed":false}\n\n`);
};
const frame = (n) => `id: ${n}\ndata: {"id":"${n}","n":"😀"}\n\n`;

test("EventStream takes a connection on which nothing comes for dead, and resumes with a fresh ticket", async (t) => {
  const { url, seen } = await odd(t, {
    stream: (n, response) => {
      begin(response);
      if (n === 1) response.write(frame("01"));
      else response.write(frame("02"));
    },
  });
  const got = follow(t, { server: url, token: "x", channel: "feed", silenceMaxMs: 150 });
  await until("it came back", () => got.events.length >= 2);
  got.stream.close();
  assert.deepEqual(got.events.slice(0, 2).map((event) => event.id), ["01", "02"]);
  assert.match(got.errors[0].message, /150 ms/);
  assert.equal(seen.streams[0].get("last_event_id"), null);
  assert.equal(seen.streams[1].get("last_event_id"), "01");
  assert.deepEqual(seen.streams.slice(0, 2).map((query) => query.get("ticket")), ["t1", "t2"]);
  await until("the dead connections are let go", () => seen.open.size === 0);
});

test("EventStream waits as long as Retry-After says, and comes back by itself from answers that pass", async (t) => {
  const { url, seen } = await odd(t, {
    ticket: (n, response) => {
      const [status, headers] = [[503, { "Retry-After": "1" }], [429, {}], [502, {}]][n - 1] ?? [];
      if (!status) return false;
      response.writeHead(status, headers).end("no JSON");
      return true;
    },
    stream: (n, response) => begin(response),
  });
  const got = follow(t, { server: url, token: "x", channel: "feed" });
  await until("it is open", () => got.opened.length === 1);
  assert.deepEqual(got.errors.map((event) => [event.status, event.final]), [[503, false], [429, false], [502, false]]);
  assert.ok(got.errors[0].retryInMs >= 1000);
  assert.ok(seen.tickets[1] - seen.tickets[0] >= 1000);
});

test("EventStream tries again when its ticket was lost on the way, but not for ever", async (t) => {
  const unauthorized = (response) => response.writeHead(401, { "Content-Type": "application/json" }).end('{"error":"Unknown ticket","code":"UNAUTHORIZED","status":401}');
  const once = await odd(t, { stream: (n, response) => (n === 1 ? unauthorized(response) : begin(response)) });
  const came = follow(t, { server: once.url, token: "x", channel: "feed" });
  const always = await odd(t, { stream: (n, response) => unauthorized(response) });
  const ended = follow(t, { server: always.url, token: "x", channel: "feed" });
  await until("one is open, the other has ended", () => came.opened.length === 1 && ended.stream.state === "closed");
  assert.deepEqual(ended.errors.map((event) => event.final), [false, false, true]);
  assert.equal(ended.errors.at(-1).message, "Unknown ticket");
});

test("EventStream reads frames however they are cut, and with every line end of the specification", async (t) => {
  const text = [
    "\uFEFF: hello\n\n", "event: connected\r\nid: 00\r\ndata: {}\r\n\r\n", "id:01\rdata:{\"id\":\"01\",\rdata: \"v\":\"ä😀\"}\r\r",
    "data: {\"event_id\":\"02\"}\nid: 02\nevent: connected\nodd: 1\n\n", ": ping\n\nid: 03\n\n", "event\ndata: {\"id\":\"03\"}\n\n",
  ].join("");
  const bytes = Buffer.from(text);
  const { url } = await odd(t, {
    stream: (n, response) => {
      response.writeHead(200, { "Content-Type": "text/event-stream" });
      response.flushHeaders();
      response.socket.setNoDelay(true);
      let at = 0;
      const next = () => {
        if (at >= bytes.length || n > 1) return;
        response.write(bytes.subarray(at, at + 1));
        at += 1;
        setImmediate(next);
      };
      next();
    },
  });
  const got = follow(t, { server: url, token: "x", channel: "feed" });
  await until("all frames are there", () => got.events.length === 3);
  assert.deepEqual(got.events.map((event) => event.detail), [{ id: "01", v: "ä😀" }, { event_id: "02" }, { id: "03" }]);
  assert.deepEqual(got.events.map((event) => event.id), ["01", "02", "03"]);
  assert.equal(got.events[0].data, '{"id":"01",\n"v":"ä😀"}');
  assert.equal(got.opened.length, 1);
});

test("EventStream dispatches nothing after close, and lets its connection go", async (t) => {
  const { url, seen } = await odd(t, {
    stream: (n, response) => {
      begin(response);
      response.write([1, 2, 3].map((m) => frame(`0${m}`)).join(""));
    },
  });
  const got = follow(t, { server: url, token: "x", channel: "feed" });
  got.stream.addEventListener("event", () => got.stream.close());
  await until("the connection is gone", () => seen.streams.length === 1 && seen.open.size === 0);
  assert.deepEqual(got.events.map((event) => event.id), ["01"]);
  assert.deepEqual(got.errors, []);
  assert.equal(got.stream.lastEventId, "01");
});

// ---- WebhookAdapter --------------------------------------------------------------------------------------------

const sent = (n, payload = { user_id: "u", properties: { n } }) =>
  `id: evt_${n}\ndata: ${JSON.stringify({ id: `evt_${n}`, timestamp: "2025-01-01T00:00:00.000Z", source: "wh_1", eventType: "purchase", payload, validated: false })}\n\n`;

test("WebhookAdapter hands single events to 'event' and those that arrive together to 'batch', each once", async (t) => {
  const { url } = await odd(t, {
    stream: (n, response, request) => {
      assert.equal(request.headers.authorization, "Bearer x");
      begin(response);
      setTimeout(() => response.write(sent(1)), 30);
      setTimeout(() => response.write(sent(2) + sent(3)), 90);
    },
  });
  const adapter = new WebhookAdapter({ server: url, token: "x" });
  t.after(() => adapter.stop());
  const singly = [];
  const together = [];
  adapter.on("event", (event) => singly.push(event)).on("batch", (events) => together.push(events.map((event) => event.id)));
  await adapter.connect({ endpointId: "wh_1" });
  await adapter.startListening();
  await until("all are there", () => singly.length + together.flat().length === 3);
  assert.deepEqual(together, [["evt_2", "evt_3"]]);
  assert.deepEqual(singly, [{
    id: "evt_1", timestamp: "2025-01-01T00:00:00.000Z", source: "wh_1", eventType: "purchase", event_type: "purchase",
    payload: { user_id: "u", properties: { n: 1 } }, user_id: "u", properties: { n: 1 }, validated: false,
  }]);
});

test("WebhookAdapter calls a handler that fails again, gives up in the end, and goes on in order", async (t) => {
  const { url, seen } = await odd(t, {
    stream: (n, response) => {
      begin(response);
      if (n === 1) response.write(sent(1) + sent(2) + sent(3));
    },
  });
  const adapter = new WebhookAdapter({ server: url, token: "x" });
  t.after(() => adapter.stop());
  const calls = [];
  const dead = [];
  adapter.on("event", async (event) => {
    calls.push([event.id, Date.now()]);
    await Promise.resolve();
    if (event.id === "evt_1" && calls.length < 3) throw new Error("not yet");
    if (event.id === "evt_2") throw new Error("never");
  });
  adapter.on("dead_letter", (event, error) => dead.push([event.id, error.message]));
  await adapter.connect({ endpointId: "wh_1", retry: { enabled: true, maxRetries: 2, initialDelay: 20, backoffMultiplier: 3 } });
  await adapter.startListening();
  await until("the third is handled", () => calls.at(-1)?.[0] === "evt_3");
  assert.deepEqual(calls.map(([id]) => id), ["evt_1", "evt_1", "evt_1", "evt_2", "evt_2", "evt_2", "evt_3"]);
  assert.ok(calls[1][1] - calls[0][1] >= 19 && calls[2][1] - calls[1][1] >= 59, "the pauses grow");
  assert.deepEqual(dead, [["evt_2", "never"]]);
  await until("the last one counts as handled", () => adapter.lastEventId === "evt_3");

  await adapter.stop();
  await adapter.connect({ endpointId: "wh_1", lastEventId: adapter.lastEventId });
  await adapter.startListening();
  assert.equal(seen.streams.at(-1).get("last_event_id"), "evt_3");
});

test("WebhookAdapter retries nothing when retry is off, and each event of a failed batch is a dead letter", async (t) => {
  const { url } = await odd(t, { stream: (n, response) => { begin(response); if (n === 1) response.write(sent(1) + sent(2)); } });
  const adapter = new WebhookAdapter({ server: url, token: "x" });
  t.after(() => adapter.stop());
  let calls = 0;
  const dead = [];
  adapter.on("batch", () => { calls += 1; throw new Error("no"); });
  adapter.on("dead_letter", (event) => dead.push(event.id));
  await adapter.connect({ endpointId: "wh_1", retry: { enabled: false } });
  await adapter.startListening();
  await until("both are dead", () => dead.length === 2);
  assert.deepEqual([calls, dead], [1, ["evt_1", "evt_2"]]);
});

test("WebhookAdapter does not count an event as handled that was still being retried when it was stopped", async (t) => {
  const { url } = await odd(t, { stream: (n, response) => { begin(response); response.write(sent(1)); } });
  const adapter = new WebhookAdapter({ server: url, token: "x" });
  let calls = 0;
  adapter.on("event", () => { calls += 1; throw new Error("later"); });
  await adapter.connect({ endpointId: "wh_1", retry: { initialDelay: 60_000 } });
  await adapter.startListening();
  await until("it was called", () => calls === 1);
  await adapter.stop();
  assert.equal(adapter.lastEventId, "00");
});

test("WebhookAdapter says what is wrong before it listens", async (t) => {
  const { url } = await odd(t, { stream: (n, response) => response.writeHead(404, { "Content-Type": "application/json" }).end('{"error":"Endpoint not found","code":"NOT_FOUND","status":404}') });
  const adapter = new WebhookAdapter({ server: url, token: "x" });
  const errors = [];
  adapter.on("error", (error) => errors.push(error));
  await assert.rejects(adapter.startListening(), /connect first/);
  await assert.rejects(adapter.connect({ endpointId: "" }), TypeError);
  await assert.rejects(adapter.connect({ endpointId: "wh_1", retry: { maxRetries: -1 } }), TypeError);
  assert.throws(() => adapter.on("evnt", () => {}), TypeError);
  await adapter.connect({ endpointId: "wh_1" });
  await assert.rejects(adapter.startListening(), { status: 404, final: true });
  assert.equal(errors.length, 1);
});

test("WebhookAdapter takes in over the real server what its document shows, alone, together, and over a kill", async (t) => {
  const own = await Stentor.start();
  t.after(() => own.stop());
  const map = await own.map("adapter");
  const adapter = new WebhookAdapter({ server: own.url, token: map.token });
  t.after(() => adapter.stop());
  const endpoint = await adapter.createEndpoint({ name: "Game Server Events", authentication: "hmac", secretKey: "your-secret-key", hmacAlgorithm: "sha256" });
  assert.match(endpoint.url, /\/webhooks\/wh_/);
  assert.equal(endpoint.secret, undefined);
  const generated = await adapter.createEndpoint({ name: "Another", authentication: "api_key" });
  assert.ok(generated.secret.length > 20);
  await assert.rejects(adapter.createEndpoint({ authentication: "password" }), { status: 400, final: true });

  const send = async (event) => {
    const payload = JSON.stringify(event);
    const timestamp = Date.now().toString();
    const signature = createHmac("sha256", "your-secret-key").update(`${timestamp}.${payload}`).digest("hex");
    const headers = { "Content-Type": "application/json", "X-Webhook-Timestamp": timestamp, "X-Webhook-Signature": `sha256=${signature}` };
    const answer = await fetch(endpoint.url, { method: "POST", headers, body: payload });
    assert.equal(answer.status, 200, await answer.clone().text());
  };
  const got = [];
  const batches = [];
  adapter.on("event", (event) => got.push(event));
  adapter.on("batch", (events) => batches.push(events.length) && got.push(...events));
  adapter.on("error", () => {});
  await adapter.connect({ endpointId: endpoint.id });
  await adapter.startListening();
  await send({ event_type: "purchase", timestamp: "2024-01-15T10:30:00Z", user_id: "user_123", properties: { amount: 9.99 } });
  await until("it is there", () => got.length === 1);
  const [first] = got;
  assert.deepEqual([first.event_type, first.eventType, first.user_id, first.properties], ["purchase", "purchase", "user_123", { amount: 9.99 }]);
  assert.deepEqual([first.source, first.timestamp], [endpoint.id, "2024-01-15T10:30:00.000Z"]);
  await send({ events: [1, 2, 3].map((n) => ({ event_type: "level_complete", user_id: `user_${n}` })) });
  await until("the batch is there", () => got.length === 4);
  assert.deepEqual(batches, [3]);
  await own.restart("SIGKILL");
  await send({ event_type: "level_start", user_id: "user_9" });
  await until("it listens again", () => got.length === 5);
  assert.equal(got[4].user_id, "user_9");

  const stream = follow(t, { server: own.url, token: map.token, channel: `source:${endpoint.id}`, lastEventId: first.id });
  await until("the stream of the source has the rest", () => stream.events.length === 4);
  assert.deepEqual(stream.events.map((event) => event.id), got.slice(1).map((event) => event.id));
});

test("EventStream follows an organization and the feed as it follows a map", async (t) => {
  const map = await server.map("beside");
  const { data: organization } = await server.call("POST", "/api/v1/organizations", ADMIN, { id: "acme", name: "Acme" });
  const sessions = follow(t, { token: organization.token, channel: "organization:acme", session: "s1" });
  const feed = follow(t, { token: ADMIN, channel: "feed", events: ["message", "beside_added"] });
  await until("both are open", () => sessions.opened.length === 1 && feed.opened.length === 1);
  for (const session of ["s1", "s2"]) {
    await server.call("POST", "/api/v1/organizations/acme/events", organization.token, { type: "message", session, payload: { text: session } });
  }
  await server.publish(map, { type: "beside_added", payload: {} });
  await until("all are there", () => feed.events.length === 3);
  assert.deepEqual(feed.events.map((event) => event.detail.event_type), ["message", "message", "beside_added"]);
  assert.ok(feed.events.every((event) => event.id === event.detail.event_id));
  assert.deepEqual(sessions.events.map((event) => [event.detail.event, event.detail.session, event.detail.payload.text]), [["message", "s1", "s1"]]);
});
