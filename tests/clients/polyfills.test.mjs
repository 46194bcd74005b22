// Clients that do not send `Last-Event-ID`, add names of their own to the address, pack what they send or want a subprotocol,
// as people use them, over connections that break again and again.
import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { after, before, describe, test } from "node:test";
import { gzipSync } from "node:zlib";
import axios from "axios";
import WebSocket from "ws";
import { Proxy } from "./cut.mjs";
import { Stentor, until } from "./stentor.mjs";

// the polyfill writes there whatever breaks, which is what is tested here
console.error = () => {};
// both libraries are made for browsers and look for these
globalThis.window = globalThis;
globalThis.document ??= { addEventListener() {}, removeEventListener() {}, readyState: "complete", hidden: false };
const require = createRequire(import.meta.url);
const { EventSourcePolyfill } = require("event-source-polyfill");
const { fetchEventSource } = require("@microsoft/fetch-event-source");

const RECONNECTS = 25;

let server;
before(async () => {
  server = await Stentor.start();
});
after(() => server?.stop());

/** A proxy that cuts its connections, and is there as long as its test. */
async function cutting(t) {
  const proxy = await Proxy.start(server.port);
  t.after(() => proxy.stop());
  return proxy;
}

/** An address of the map at a server, or at the proxy in front of it. */
const watched = (at, map, path) => `${at.url}/api/maps/${map.slug}/events/${path}`;

/** Publishes while the client is there, cuts its connection behind an event, and publishes while it is away, again and again;
 * gives what is stored in the end. */
async function cutAgainAndAgain(proxy, map, got) {
  let n = 0;
  const three = () => server.publish(map, [1, 2, 3].map(() => ({ type: (n += 1) % 2 ? "add_system" : "map_kill", payload: { n } })));
  for (let round = 1; round <= RECONNECTS; round += 1) {
    const [connected, messages] = [got.connected, got.messages.length];
    await three();
    await until(`round ${round} has brought something`, () => got.messages.length > messages);
    proxy.cut();
    await three();
    await until(() => `it came back after cut ${round}: ${got.connected} times`, () => got.connected > connected, 30_000);
  }
  await until(() => `${n} are there: ${got.messages.length}`, () => got.messages.length >= n);
  return server.history(map);
}

// the first address is that of the document of the maps, the second that of its section on coming back
const starts = {
  "as in its document": async (map) => ({ query: `events=add_system,map_kill&token=${map.token}`, before: 0 }),
  "from a cursor": async (map) => {
    const [first] = await server.publish(map, [{ type: "add_system", payload: { n: 0 } }, { type: "map_kill", payload: { n: 0 } }]);
    return { query: `token=${map.token}&last_event_id=${first}`, before: 1 };
  },
};

// the polyfill waits a second before it comes back, so all of them at once
describe("over connections that break", { concurrency: true }, () => {
  for (const [start, begin] of Object.entries(starts)) {
    test(`event-source-polyfill ${start} gets every event once over ${RECONNECTS} reconnects`, { timeout: 120_000 }, async (t) => {
      const proxy = await cutting(t);
      const map = await server.map(`polyfill-${start.replaceAll(" ", "-")}`);
      const { query, before: known } = await begin(map);
      const got = { messages: [], connected: 0 };
      const source = new EventSourcePolyfill(`${watched(proxy, map, "stream")}?${query}`, {
        headers: { Authorization: `Bearer ${map.token}` },
      });
      source.onmessage = (event) => got.messages.push(event.data);
      source.addEventListener("connected", () => (got.connected += 1));
      source.onerror = () => {};
      try {
        await until("it is connected", () => got.connected === 1);
        await until("what was there has come", () => got.messages.length === known);
        got.messages.length = 0;
        const stored = await cutAgainAndAgain(proxy, map, got);
        assert.deepEqual(got.messages, stored.slice(start === "from a cursor" ? 2 : 0));
        assert.ok(got.connected > 20);
      } finally {
        source.close();
      }
    });
  }

  test(`fetch-event-source gets every event once over ${RECONNECTS} reconnects`, { timeout: 120_000 }, async (t) => {
    const proxy = await cutting(t);
    const map = await server.map("fetch-event-source");
    const got = { messages: [], connected: 0 };
    const abort = new AbortController();
    const done = fetchEventSource(watched(proxy, map, "stream"), {
      headers: { Authorization: `Bearer ${map.token}` },
      signal: abort.signal,
      openWhenHidden: true,
      onmessage(message) {
        if (message.event === "connected") got.connected += 1;
        else if (message.data) got.messages.push(message.data);
      },
      // an end of the connection is an error to come back from
      onclose() {
        throw new Error("ended");
      },
      onerror: () => 20,
    });
    try {
      await until("it is connected", () => got.connected === 1);
      const stored = await cutAgainAndAgain(proxy, map, got);
      assert.deepEqual(got.messages, stored);
    } finally {
      abort.abort();
      await done;
    }
  });
});

test("a polyfill that repeats its address and adds the newest id, padding and a time gets no event twice", async () => {
  const map = await server.map("repeats");
  const ids = await server.publish(map, [1, 2, 3].map((n) => ({ type: "add_system", payload: { n } })));
  const query = `token=${map.token}&last_event_id=${ids[0]}&r=0.123&t=1719400000&padding=true&lastEventId=${ids[1]}`;
  const answer = await axios.get(`${watched(server, map, "stream")}?${query}`, { responseType: "stream" });
  let text = "";
  answer.data.on("data", (chunk) => (text += chunk));
  answer.data.on("error", () => {});
  await until("the third is there", () => text.includes(`id: ${ids[2]}\ndata: `));
  assert.ok(!text.includes(`id: ${ids[1]}\ndata: {"id"`) && text.includes('"resumed":true'), text);
  answer.data.destroy();
});

test("axios asks with lists in brackets, by HEAD, and sends what it has packed", async () => {
  const map = await server.map("axios");
  const client = axios.create({ baseURL: server.url, headers: { Authorization: `Bearer ${map.token}` } });
  const packed = gzipSync(JSON.stringify([{ type: "add_system" }, { type: "map_kill" }, { type: "character_added" }]));
  const headers = { "Content-Type": "application/json", "Content-Encoding": "gzip" };
  const made = await client.post(map.path, packed, { headers });
  assert.equal(made.status, 201);
  const page = await client.get(map.path, { params: { events: ["map_kill", "character_added"], limit: 10, _: Date.now() } });
  assert.deepEqual(page.data.data.map((event) => event.type), ["map_kill", "character_added"]);
  for (const path of ["/health/live", "/metrics", "/openapi.json", map.path, `${map.path}/stream`]) {
    const head = await client.head(path);
    assert.equal(head.status, 200, path);
    assert.equal(head.data, "", path);
  }
  const misspelt = await client.get(map.path, { params: { evnts: "map_kill" }, validateStatus: () => true });
  assert.equal(misspelt.status, 400);
  assert.equal(misspelt.data.code, "UNKNOWN_PARAMETER");
});

test("ws and the WebSocket of browsers get a subprotocol that they have offered", async () => {
  const map = await server.map("protocols");
  const url = `${map.stream.replace("http", "ws").replace(/stream$/, "ws")}?token=${map.token}`;
  for (const [offered, taken] of [[["json"], "json"], [["json", "stentor.v1"], "stentor.v1"], [[], ""]]) {
    const socket = new WebSocket(url, offered);
    await new Promise((resolve, reject) => {
      socket.once("open", resolve);
      socket.once("error", reject);
    });
    assert.equal(socket.protocol, taken);
    socket.close();
  }
});
