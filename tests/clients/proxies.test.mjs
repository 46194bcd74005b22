// Clients behind the reverse proxies that the documentation describes.
import assert from "node:assert/strict";
import { connect } from "node:http2";
import { createConnection } from "node:net";
import { after, before, describe, test } from "node:test";
import { EventSource } from "eventsource";
import WebSocket from "ws";
import { Caddy, Nginx, isInstalled } from "./proxy.mjs";
import { Publisher, Stentor, until } from "./stentor.mjs";

const PATIENCE_MS = 10_000;
const quick = { "sse.keepalive_s": "1", "streams.heartbeat_s": "1" };

/** An SSE stream by fetch: its frames as they come. */
async function open(url, map, path) {
  const abort = new AbortController();
  const headers = { Authorization: `Bearer ${map.token}` };
  const answer = await fetch(`${url}/api/maps/${map.slug}/events/${path}`, { headers, signal: abort.signal });
  assert.equal(answer.status, 200);
  const stream = { answer, frames: [], ended: false, close: () => abort.abort() };
  (async () => {
    let text = "";
    for await (const chunk of answer.body.pipeThrough(new TextDecoderStream())) {
      text += chunk;
      const parts = text.split("\n\n");
      text = parts.pop();
      stream.frames.push(...parts);
    }
  })().catch(() => {}).finally(() => (stream.ended = true));
  return stream;
}

const socketTo = (url, map, options = {}) =>
  new WebSocket(`${url.replace("http", "ws")}/api/maps/${map.slug}/events/ws`, {
    headers: { Authorization: `Bearer ${map.token}` },
    ...options,
  });

/** A server of the test's own behind a proxy of its own. */
async function behind(t, Kind, options = {}, settings = {}) {
  const server = await Stentor.start([], settings);
  t.after(() => server.stop());
  const proxy = await Kind.start(server, options);
  t.after(() => proxy.stop());
  return [server, proxy];
}

const kinds = { nginx: Nginx, caddy: Caddy };

for (const [name, Kind] of Object.entries(kinds)) {
  describe(name, { skip: isInstalled(name) ? false : `${name} is not installed; scripts/setup does it` }, () => {
    let server, proxy;
    before(async () => {
      server = await Stentor.start();
      proxy = await Kind.start(server);
    });
    after(async () => {
      await proxy?.stop();
      await server?.stop();
    });

    test("an event comes through while the stream stays open, alone", async () => {
      const map = await server.map(`${name}-unbuffered`);
      const stream = await open(proxy.url, map, "stream");
      await until("the stream begins", () => stream.frames.length === 1, PATIENCE_MS);
      for (let n = 2; n <= 4; n += 1) {
        await server.publish(map, { type: "add_system", payload: { n } });
        await until(`event ${n} is there with nothing behind it`, () => stream.frames.length === n, PATIENCE_MS);
      }
      assert.equal(stream.answer.headers.get("content-type"), "text/event-stream; charset=utf-8");
      assert.match(stream.answer.headers.get("cache-control"), /no-transform/);
      assert.equal(stream.answer.headers.get("content-encoding"), null);
      stream.close();
    });

    test("a WebSocket is upgraded, gets events, and learns how it ended", async (t) => {
      const [own, front] = await behind(t, Kind);
      const map = await own.map("socket");
      const socket = socketTo(front.url, map);
      const got = [];
      socket.on("message", (data) => got.push(JSON.parse(data.toString())));
      const closed = new Promise((resolve) => socket.once("close", resolve));
      await until("it is connected", () => got.length === 1, PATIENCE_MS);
      const [id] = await own.publish(map, { type: "map_kill", payload: {} });
      await until("the event is there", () => got.some((message) => message.id === id), PATIENCE_MS);
      await own.restart("SIGTERM");
      assert.equal(await closed, 1001);
    });

    test("clients lose and repeat no event while the proxy reloads its configuration", async () => {
      const map = await server.map(`${name}-reload`);
      const source = new EventSource(`${proxy.url}/api/maps/${map.slug}/events/stream?token=${map.token}`);
      const got = [];
      source.onmessage = (event) => got.push(JSON.parse(event.data).payload.n);
      const frames = [];
      let [connected, closing, socket] = [0, false];
      const reconnect = () => {
        const since = frames.at(-1)?.id ?? "";
        const url = `${proxy.url.replace("http", "ws")}/api/maps/${map.slug}/events/ws?since=${since}`;
        socket = new WebSocket(url, { headers: { Authorization: `Bearer ${map.token}` } });
        socket.on("error", () => {});
        socket.on("close", () => closing || setTimeout(reconnect, 50));
        socket.on("message", (data) => {
          const message = JSON.parse(data.toString());
          if (message.id) frames.push(message);
          else connected += message.event === "connected";
        });
      };
      reconnect();
      await until("both are connected", () => connected === 1 && source.readyState === EventSource.OPEN, PATIENCE_MS);
      const publisher = new Publisher(server, map);
      for (let round = 1; round <= 2; round += 1) {
        await publisher.more(20);
        proxy.reload();
        // Caddy and nginx end what is upgraded; nginx a stream too, after worker_shutdown_timeout
        await until(`the socket came back after reload ${round}`, () => connected > round, PATIENCE_MS);
      }
      await publisher.more(20);
      const total = await publisher.stop();
      await until(() => `all ${total} are there: ${got.length}, ${frames.length}`, () => got.length >= total && frames.length >= total);
      const all = Array.from({ length: total }, (_, i) => i + 1);
      assert.deepEqual(got, all);
      assert.deepEqual(frames.map((frame) => frame.payload.n), all);
      closing = true;
      socket.close();
      source.close();
    });

    test("a batch as large as the server takes passes, and a larger one is refused by the server", async () => {
      const map = await server.map(`${name}-large`);
      const event = { type: "add_system", payload: { filler: "x".repeat(100_000) } };
      const post = (count) =>
        fetch(proxy.url + map.path, {
          method: "POST",
          headers: { Authorization: `Bearer ${map.token}`, "Content-Type": "application/json" },
          body: JSON.stringify(Array.from({ length: count }, () => event)),
        });
      assert.equal((await post(41)).status, 201);
      const refused = await post(42);
      assert.equal(refused.status, 413);
      assert.equal((await refused.json()).code, "PAYLOAD_TOO_LARGE");
    });

    test("the address of a ticket is the one that clients use, and no token gets into the proxy's log", async () => {
      const map = await server.map(`${name}-ticket`);
      const ticket = async () => {
        const headers = { Authorization: `Bearer ${map.token}` };
        const answer = await fetch(`${proxy.url}${map.path}/ticket`, { method: "POST", headers });
        return (await answer.json()).data;
      };
      const { url, ticket: secret } = await ticket();
      assert.ok(url.startsWith(proxy.url), url);
      const stream = await fetch(url);
      assert.equal(stream.status, 200);
      await stream.body.cancel();
      const byToken = await fetch(`${proxy.url}${map.path}/stream?token=${map.token}`);
      assert.equal(byToken.status, 200);
      await byToken.body.cancel();
      await until("the requests are logged", () => proxy.accessLog().split("/stream").length > 2, PATIENCE_MS);
      assert.ok(!proxy.accessLog().includes(map.token) && !proxy.accessLog().includes(secret));
    });
  });
}

describe("nginx", { skip: !isInstalled("nginx") }, () => {
  test("silence longer than proxy_read_timeout does not end a stream, because it is never quite silent", async (t) => {
    const [server, proxy] = await behind(t, Nginx, { readTimeout: "3s" }, quick);
    const map = await server.map("silent");
    const stream = await open(proxy.url, map, "stream");
    const socket = socketTo(proxy.url, map);
    let pings = 0;
    socket.on("message", (data) => (pings += JSON.parse(data.toString()).event === "ping"));
    // five of them take longer than nginx has patience
    const enough = () => pings >= 5 && stream.frames.filter((frame) => frame.startsWith(":")).length >= 5;
    await until("both have said five times that they live", enough);
    assert.equal(stream.ended, false);
    const [id] = await server.publish(map, { type: "add_system", payload: {} });
    await until("the next event is there", () => stream.frames.some((frame) => frame.includes(id)), PATIENCE_MS);
    assert.equal(socket.readyState, WebSocket.OPEN);
    stream.close();
    socket.close();
  });

  test("with HTTP/1.0 towards the server, nginx's default, streams and NDJSON come through as they are", async (t) => {
    const [server, proxy] = await behind(t, Nginx, { httpVersion: "1.0" });
    const map = await server.map("old");
    const stream = await open(proxy.url, map, "stream");
    await until("the stream begins", () => stream.frames.length === 1, PATIENCE_MS);
    assert.match(stream.frames[0], /^event: connected\nid: /);
    for (let n = 2; n <= 4; n += 1) {
      await server.publish(map, { type: "add_system", payload: { n } });
      await until(`event ${n} is there`, () => stream.frames.length === n, PATIENCE_MS);
    }
    const events = Array.from({ length: 1000 }, (_, n) => ({ type: "map_kill", payload: { n, filler: "x".repeat(200) } }));
    for (let batch = 0; batch < 3; batch += 1) await server.publish(map, events);
    const headers = { Authorization: `Bearer ${map.token}`, Accept: "application/x-ndjson" };
    const lines = (await (await fetch(proxy.url + map.path, { headers })).text()).trimEnd().split("\n");
    assert.deepEqual(lines, await server.history(map));
    assert.equal(lines.length, 3003);
    await until("all are there by stream", () => stream.frames.length === 3004);
    stream.close();
  });

  test("a reader that takes nothing does not make nginx keep the stream on its disk", async (t) => {
    const [server, proxy] = await behind(t, Nginx);
    const map = await server.map("slow");
    const port = new URL(proxy.url).port;
    const slow = createConnection(Number(port), "127.0.0.1");
    t.after(() => slow.destroy());
    slow.write(`GET ${map.path}/stream HTTP/1.1\r\nHost: slow\r\nAuthorization: Bearer ${map.token}\r\n\r\n`);
    await until("its stream has begun", () => slow.read(1) !== null, PATIENCE_MS);
    slow.pause();
    const quick = await open(proxy.url, map, "stream");
    const event = { type: "add_system", payload: { filler: "x".repeat(100_000) } };
    for (let n = 0; n < 8; n += 1) await server.publish(map, Array.from({ length: 40 }, () => event));
    await until("another reader has them all", () => quick.frames.length === 8 * 40 + 1);
    assert.deepEqual(proxy.spooled(), []);
    quick.close();
  });

  test("many streams share one connection by TLS and HTTP/2, and WebSockets and tickets work by TLS", async (t) => {
    const [server, proxy] = await behind(t, Nginx);
    const map = await server.map("tls");
    const client = connect(proxy.tls, { ca: proxy.ca });
    const head = { ":path": `${map.path}/stream`, authorization: `Bearer ${map.token}` };
    const streams = Array.from({ length: 8 }, () => {
      const [request, stream] = [client.request(head), { text: "" }];
      request.setEncoding("utf8").on("data", (text) => (stream.text += text));
      return stream;
    });
    await until("all have begun", () => streams.every((stream) => stream.text.includes("event: connected")), PATIENCE_MS);
    const socket = socketTo(proxy.tls, map, { ca: proxy.ca });
    const got = [];
    socket.on("message", (data) => got.push(data.toString()));
    await until("the socket too", () => got.length === 1, PATIENCE_MS);
    const [id] = await server.publish(map, { type: "map_kill", payload: {} });
    await until("the event is everywhere", () => [...streams.map((s) => s.text), got.join()].every((t) => t.includes(id)), PATIENCE_MS);

    const request = client.request({ ...head, ":path": `${map.path}/ticket`, ":method": "POST" });
    let answer = "";
    request.setEncoding("utf8").on("data", (text) => (answer += text)).end();
    await until("a ticket is there", () => answer.endsWith("}"), PATIENCE_MS);
    assert.ok(JSON.parse(answer).data.url.startsWith(proxy.tls), answer);
    socket.close();
    client.destroy();
  });
});
