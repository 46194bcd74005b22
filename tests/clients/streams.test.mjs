// The clients that people use, as they use them, against the real server.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { EventSource } from "eventsource";
import EventSource2 from "eventsource-2";
import WebSocket from "ws";
import { Publisher, Stentor, until } from "./stentor.mjs";

let server;
before(async () => (server = await Stentor.start()));
after(() => server.stop());

const bearer = (map) => ({
  fetch: (url, init) => fetch(url, { ...init, headers: { ...init.headers, Authorization: `Bearer ${map.token}` } }),
});
const withToken = (map, query = "") => `${map.stream}?token=${encodeURIComponent(map.token)}&${query}`;

const openers = {
  "eventsource 3 with a Bearer header": (map, query = "") => new EventSource(`${map.stream}?${query}`, bearer(map)),
  "eventsource 3 with ?token=": (map, query) => new EventSource(withToken(map, query)),
  "eventsource 2 with a Bearer header": (map, query = "") =>
    new EventSource2(`${map.stream}?${query}`, { headers: { Authorization: `Bearer ${map.token}` } }),
  "eventsource 2 with ?token=": (map, query) => new EventSource2(withToken(map, query)),
};

/** What onmessage is given, as in the document of the maps family. */
function collect(source) {
  const got = { messages: [], opened: 0, connected: [], source };
  source.onmessage = (event) => got.messages.push(event);
  source.addEventListener("connected", (event) => got.connected.push(JSON.parse(event.data)));
  source.onerror = () => {};
  return got;
}

const numbers = (messages) => messages.map((message) => JSON.parse(message.data).payload.n);
const upTo = (total) => Array.from({ length: total }, (_, i) => i + 1);

/** Sorts what comes by WebSocket into events, which have an id, and the rest. */
function wsOpen(map, got, since = "") {
  const url = `${map.stream.replace("http", "ws").replace(/stream$/, "ws")}?since=${since}`;
  const socket = new WebSocket(url, { headers: { Authorization: `Bearer ${map.token}` } });
  socket.on("error", () => {});
  socket.on("message", (data) => {
    const text = data.toString();
    (JSON.parse(text).id ? got.frames : got.controls).push(text);
  });
  return socket;
}

for (const [name, open] of Object.entries(openers)) {
  test(`${name} gets events by onmessage, and only the types it asked for`, async () => {
    const map = await server.map(`types-${name.replace(/[^a-z0-9]+/gi, "-").toLowerCase().replace(/-$/, "")}`);
    const all = collect(open(map));
    const kills = collect(open(map, "events=map_kill,acl_member_added"));
    try {
      await until("the streams are connected", () => [all, kills].every((got) => got.connected.length === 1));
      assert.equal(all.connected[0].map_id, map.id);
      const ids = await server.publish(map, {
        events: [
          { type: "add_system", payload: { name: "J123456" } },
          { type: "map_kill", payload: { value: 250000000 } },
        ],
      });
      await until("all events are there", () => all.messages.length === 2 && kills.messages.length === 1);
      const [first, second] = all.messages.map((message) => JSON.parse(message.data));
      assert.deepEqual(Object.keys(first), ["id", "type", "map_id", "ts", "timestamp", "payload"]);
      assert.equal(first.type, "add_system");
      assert.equal(first.map_id, map.id);
      assert.equal(first.ts, first.timestamp);
      assert.deepEqual(second.payload, { value: 250000000 });
      assert.deepEqual(all.messages.map((message) => message.lastEventId), ids);
      assert.equal(JSON.parse(kills.messages[0].data).type, "map_kill");
    } finally {
      for (const got of [all, kills]) got.source.close();
    }
  });
}

test("clients lose and repeat no event when the server is killed, and when it is stopped, while events come in", async () => {
  const own = await Stentor.start();
  const map = await own.map("restart");
  const clients = Object.entries(openers).map(([name, open]) => ({ name, ...collect(open(map)) }));
  // ws leaves reconnecting to its user: the last id is the cursor
  const frames = [];
  const controls = [];
  let socket;
  let closing = false;
  const reconnect = () => {
    socket = wsOpen(map, { frames, controls }, frames.length ? JSON.parse(frames.at(-1)).id : "");
    socket.on("close", () => closing || setTimeout(reconnect, 50));
  };
  try {
    reconnect();
    await until("all are connected", () => controls.length && clients.every((c) => c.connected.length === 1));
    const publisher = new Publisher(own, map);
    for (const [round, signal] of ["SIGKILL", "SIGTERM", "SIGKILL", "SIGKILL", "SIGTERM", "SIGKILL"].entries()) {
      await publisher.more(30);
      await own.restart(signal);
      const states = () => clients.map((c) => `${c.name}: ${c.connected.length}, state ${c.source.readyState}`).join("; ");
      await until(
        () => `all are connected again after ${signal}: ws ${controls.length}; ${states()}`,
        () => controls.length > round + 1 && clients.every((c) => c.connected.length > round + 1),
      );
    }
    await publisher.more(30);
    const total = await publisher.stop();
    const stored = await own.history(map);
    const counts = () => `${total} events are there: ws ${frames.length}, ${clients.map((c) => c.messages.length)}`;
    await until(counts, () => frames.length >= total && clients.every((c) => c.messages.length >= total));
    assert.deepEqual(stored.map((text) => JSON.parse(text).payload.n), upTo(total));
    for (const client of clients) {
      assert.deepEqual(client.messages.map((message) => message.data), stored, client.name);
      assert.ok(client.connected.slice(1).every((frame) => frame.resumed), client.name);
    }
    assert.deepEqual(frames, stored);
  } finally {
    closing = true;
    socket?.close();
    for (const client of clients) client.source.close();
    await own.stop();
  }
});

const nest = (depth) => `${'{"a":['.repeat(depth)}1${"]}".repeat(depth)}`;
const nasty = [
  "1.0", "-0.0", "2.5e8", "1e21", "1e-7", "123456789012345680000", "0.1", "9007199254740991", "5e-324",
  '"😀 \u2028 \u2029 \u007f \\u0000 \\ud83d\\ude00 \\/ \\b\\f\\n\\r\\t"', '"é e\\u0301"',
  '{"10":1,"2":2,"b":3,"a":4,"01":5,"-1":6,"4294967295":7,"4294967294":8}', '{"":1,"__proto__":{"x":1}}',
  '{"a":1,"b":2,"a":3}', nest(20), "null", "true", "[]", "{}", '[ 1 , { "x" : [ ] } ]', '"data: x\\n\\nid: 1"',
];

test("every body is a fixed point of JSON.parse and JSON.stringify, the same by SSE, WebSocket and history", async () => {
  const map = await server.map("fixed-point");
  const types = await (await fetch(`${server.url}/api/event-types`)).json();
  assert.ok(types.data.length >= 24);
  const bodies = [
    ...types.data.map(({ type, example }) => JSON.stringify({ type, payload: example })),
    ...nasty.map((payload) => `{"type":"nasty","payload":{"v":${payload}}}`),
  ];
  const sse = collect(new EventSource(withToken(map)));
  const ws = { frames: [], controls: [] };
  const socket = wsOpen(map, ws);
  try {
    await until("both are connected", () => sse.connected.length && ws.controls.length);
    for (const body of bodies) await server.publish(map, body);
    const counts = () => `all ${bodies.length} are there: ${sse.messages.length} by SSE, ${ws.frames.length} by WebSocket`;
    await until(counts, () => sse.messages.length >= bodies.length && ws.frames.length >= bodies.length);
    const live = sse.messages.map((message) => message.data);
    assert.deepEqual(ws.frames, live);
    live.forEach((data, i) => {
      assert.equal(JSON.stringify(JSON.parse(data)), data);
      // what JavaScript itself would have sent, had it read the body: -0 is 0
      assert.equal(JSON.stringify(JSON.parse(data).payload), JSON.stringify(JSON.parse(bodies[i]).payload));
    });
    assert.deepEqual(await server.history(map), live);
  } finally {
    sse.source.close();
    socket.close();
  }
});
