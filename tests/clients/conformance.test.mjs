// One suite of scenarios that every client has to pass against the real server. Each client has a driver under `conformance/`, which
// takes a task as JSON on its standard input and says as JSON, a line each, what it saw.
import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { createHmac } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer, request as httpRequest } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";

import { Proxy } from "./cut.mjs";
import { ADMIN, Stentor, until } from "./stentor.mjs";

const here = (path) => fileURLToPath(new URL(path, import.meta.url));
const folder = mkdtempSync(join(tmpdir(), "stentor-conformance-"));
const go = join(folder, "driver");
const python = here(".venv/bin/python");

/** What is judged: each client in each way in which it follows. */
const CLIENTS = [
  { name: "Python over SSE", command: [python, here("conformance/driver.py")], transport: "sse" },
  { name: "Python over WebSocket", command: [python, here("conformance/driver.py")], transport: "websocket" },
  { name: "Python with asyncio over SSE", command: [python, here("conformance/driver.py"), "async"], transport: "sse" },
  { name: "Python with asyncio over WebSocket", command: [python, here("conformance/driver.py"), "async"], transport: "websocket" },
  { name: "TypeScript over SSE", command: [process.execPath, here("conformance/driver.mjs")], transport: "sse" },
  // platforms do not say why a handshake was refused: the client asks again without one, by the same ticket
  { name: "TypeScript over WebSocket", command: [process.execPath, here("conformance/driver.mjs")], transport: "websocket", asksTwice: true },
  { name: "Go over SSE", command: [go], transport: "sse" },
  { name: "Go over WebSocket", command: [go], transport: "websocket" },
];

/** A driver at work. */
class Driver {
  said = [];
  #errors = "";

  constructor({ command, transport }, task) {
    this.child = spawn(command[0], [...command.slice(1)], {
      stdio: ["pipe", "pipe", "pipe"],
      env: { ...process.env, PYTHONPATH: here("../../clients/python/src"), PYTHONDONTWRITEBYTECODE: "1" },
    });
    this.child.stderr.on("data", (text) => (this.#errors = (this.#errors + text).slice(-2000)));
    createInterface({ input: this.child.stdout }).on("line", (line) => this.said.push(JSON.parse(line)));
    this.ended = new Promise((resolve) => this.child.once("close", resolve));
    this.child.stdin.end(`${JSON.stringify({ transport, ...task })}\n`);
  }

  of(name) {
    return this.said.filter((line) => name in line).map((line) => line[name]);
  }

  get numbers() {
    return this.of("event").map(({ n }) => n);
  }

  /** What it complained of before it ended, which must not be a good end. */
  async complaint() {
    assert.notEqual(await this.ended, 0, JSON.stringify(this.said));
    return this.#errors;
  }

  /** Waits for its end, which has to be a good one. */
  async end() {
    const code = await Promise.race([this.ended, new Promise((resolve) => setTimeout(resolve, 60_000, "late"))]);
    assert.equal(code, 0, `${this.#errors}${JSON.stringify(this.said.slice(-3))}`);
    return this;
  }

  stop() {
    this.child.kill("SIGKILL");
    return this.ended;
  }
}

const numbered = (from, to) => Array.from({ length: to - from }, (_, at) => from + at);
const batch = (from, to, payload = {}) => ({ events: numbered(from, to).map((n) => ({ type: "add_system", payload: { n, ...payload } })) });

before(() => {
  const built = spawnSync(process.execPath, [here("../../clients/typescript/build.mjs")], { encoding: "utf8" });
  assert.equal(built.status, 0, built.stdout + built.stderr);
  const compiled = spawnSync("go", ["build", "-o", go, "."], { cwd: here("conformance/go"), encoding: "utf8" });
  assert.equal(compiled.status, 0, compiled.stderr);
});
after(() => rmSync(folder, { recursive: true, force: true }));

/** Loses what is sent to it as a ticket, the first so many times: the server gets another one. */
async function losing(t, server, times) {
  const seen = { tickets: 0, lost: 0 };
  const pass = (request, response) => {
    let path = request.url;
    if (request.method === "POST" && path.endsWith("/ticket")) seen.tickets += 1;
    if (path.includes("ticket=") && seen.lost < times) {
      seen.lost += 1;
      path = path.replace(/ticket=[^&]*/, "ticket=rt_00000000000000000000000000000000");
    }
    return httpRequest(server.url + path, { method: request.method, headers: request.headers });
  };
  const proxy = createServer((request, response) => {
    const upstream = pass(request, response);
    upstream.on("response", (answer) => {
      response.writeHead(answer.statusCode, answer.headers);
      answer.pipe(response);
    });
    upstream.on("error", () => response.destroy());
    response.on("close", () => upstream.destroy());
    request.pipe(upstream);
  });
  proxy.on("upgrade", (request, socket, head) => {
    const upstream = pass(request);
    socket.on("error", () => upstream.destroy());
    const write = (answer) => {
      const headers = Object.entries(answer.headers).map(([name, value]) => `${name}: ${value}`);
      socket.write([`HTTP/1.1 ${answer.statusCode} ${answer.statusMessage}`, ...headers, "", ""].join("\r\n"));
    };
    upstream.on("response", (answer) => {
      write(answer);
      answer.pipe(socket);
    });
    upstream.on("upgrade", (answer, other, rest) => {
      write(answer);
      socket.write(rest);
      other.pipe(socket).pipe(other);
      other.on("error", () => socket.destroy());
      socket.on("error", () => other.destroy());
    });
    upstream.on("error", () => socket.destroy());
    upstream.end(head);
  });
  await new Promise((resolve) => proxy.listen(0, "127.0.0.1", resolve));
  t.after(() => {
    proxy.close();
    proxy.closeAllConnections();
  });
  return { url: `http://127.0.0.1:${proxy.address().port}`, seen };
}

// they mostly wait, for connections that come back: several at once
describe("clients", { concurrency: 4 }, () => {
  for (const client of CLIENTS) {
    describe(client.name, { concurrency: false }, () => {
      let server;
      let maps = 0;
      before(async () => {
        server = await Stentor.start(["--dev"]);
      });
      after(() => server.stop());

      /** A driver that is ended with its test. */
      const drive = (t, task) => {
        const driver = new Driver(client, { server: server.url, ...task });
        t.after(() => driver.stop());
        return driver;
      };
      const newMap = () => server.map(`map-${(maps += 1)}`);

      test("goes on behind the last event that was handled, when it is started again", async (t) => {
        const map = await newMap();
        const ids = await server.publish(map, batch(0, 10));
        const common = { do: "follow", token: map.token, channel: `map:${map.slug}`, cursor: join(folder, `cursor-${map.id}`) };
        const first = await drive(t, { ...common, after: ids[0], count: 4 }).end();
        assert.deepEqual(first.numbers, [1, 2, 3, 4]);
        // the last event was not confirmed: nobody asked for the next one
        const second = await drive(t, { ...common, count: 6 }).end();
        assert.deepEqual(second.numbers, [4, 5, 6, 7, 8, 9]);
        assert.deepEqual(second.of("gap"), []);
        assert.ok(second.of("event").every(({ at }) => Math.abs(at - Date.now() / 1000) < 600));
      });

      test("gets each event once and in order over connections that are cut", async (t) => {
        const map = await newMap();
        const cut = await Proxy.start(server.port);
        t.after(() => cut.stop());
        const [start] = await server.publish(map, batch(-1, 0));
        const driver = drive(t, { do: "follow", server: cut.url, token: map.token, channel: `map:${map.slug}`, after: start });
        for (let round = 0; round < 4; round += 1) {
          await server.publish(map, batch(round * 50, round * 50 + 50, { padding: "x".repeat(2000) }));
          await until("some of it came", () => driver.numbers.length > round * 50 + 5);
          cut.cut();
        }
        await until("all came", () => driver.numbers.length >= 200);
        assert.deepEqual(driver.numbers, numbered(0, 200));
        assert.ok(driver.of("error").length > 0);
      });

      test("misses nothing of what is published before its first event, although the connection is cut", async (t) => {
        const map = await newMap();
        const cut = await Proxy.start(server.port);
        t.after(() => cut.stop());
        await until("the streams of other tests are gone", async () => (await streams(server)) === 0);
        const driver = drive(t, { do: "follow", server: cut.url, token: map.token, channel: `map:${map.slug}` });
        await until("the stream is open", async () => (await streams(server)) === 1);
        cut.cut();
        await server.publish(map, batch(0, 3));
        await until("all came", () => driver.numbers.length >= 3);
        assert.deepEqual(driver.numbers, [0, 1, 2]);
        assert.deepEqual(driver.of("gap"), []);
      });

      test("follows several channels in one order, by the token or by tickets", async (t) => {
        const [one, two, other] = [await newMap(), await newMap(), await newMap()];
        const [start] = await server.publish(one, batch(-1, 0));
        for (let n = 0; n < 6; n += 1) await server.publish([one, two, other][n % 3], batch(n, n + 1));
        const channel = [`map:${one.slug}`, `map:${two.id}`];
        for (const tickets of [false, true]) {
          const driver = drive(t, { do: "follow", token: ADMIN, channel, after: start, tickets });
          await until("what was there came", () => driver.numbers.length >= 4);
          await server.publish(two, batch(6 + tickets, 7 + tickets));
          await until("what is new came", () => driver.numbers.length >= 5 + tickets);
          assert.deepEqual(driver.numbers, [0, 1, 3, 4, 6, 7].slice(0, 5 + tickets));
          await driver.stop();
        }
      });

      test("says where events are missing, and goes on", async (t) => {
        const map = await newMap();
        const driver = drive(t, { do: "follow", token: map.token, channel: `map:${map.slug}`, after: "7ZZZZZZZZZZZZZZZZZZZZZZZZZ" });
        await until("the gap is told", () => driver.of("gap").length === 1);
        assert.equal(driver.of("gap")[0].reason, "ahead");
        await server.publish(map, batch(0, 2));
        await until("what comes is told", () => driver.numbers.length === 2);
        assert.deepEqual(driver.numbers, [0, 1]);
      });

      test("asks for another ticket when one was lost, but not for ever", async (t) => {
        const map = await newMap();
        const [start] = await server.publish(map, batch(-1, 2));
        const once = await losing(t, server, 1);
        const task = { do: "follow", token: map.token, channel: `map:${map.slug}`, after: start, tickets: true };
        const driver = drive(t, { ...task, server: once.url, count: 2 });
        await driver.end();
        assert.deepEqual(driver.numbers, [0, 1]);
        assert.equal(driver.of("error")[0].status, client.asksTwice ? null : 401);
        assert.deepEqual(once.seen, { tickets: 2, lost: 1 });
        const always = await losing(t, server, Infinity);
        const given = await drive(t, { ...task, server: always.url }).end();
        assert.equal(given.of("fatal")[0].status, 401);
        assert.deepEqual(always.seen, { tickets: 3, lost: client.asksTwice ? 6 : 3 });
      });

      test("gets each event once over restarts of the server, and publishes each once", async (t) => {
        const own = await Stentor.start(["--dev"]);
        t.after(() => own.stop());
        const map = await own.map("restarts");
        const [start] = await own.publish(map, batch(0, 1));
        const reader = drive(t, { do: "follow", server: own.url, token: map.token, channel: "map:restarts", after: start });
        const writer = drive(t, { do: "publish", server: own.url, token: map.token, channel: "map:restarts", from: 1, to: 301 });
        for (const signal of ["SIGKILL", "SIGTERM"]) {
          const before = reader.numbers.length;
          await until("some came", () => reader.numbers.length > before + 20 || reader.numbers.length >= 300);
          await own.restart(signal);
        }
        await writer.end();
        await until("all came", () => reader.numbers.length >= 302);
        assert.deepEqual(reader.numbers, [...numbered(1, 301), -1, -2]);
        assert.equal(writer.of("id").length, 300);
        assert.deepEqual((await own.history(map)).slice(1).map((line) => JSON.parse(line).id), [...writer.of("id"), ...writer.of("ids")[0]]);
      });

      test("loses nothing when its handler is slow", async (t) => {
        const slow = await Stentor.start(["--dev"], { "streams.stall_timeout_s": "1" });
        t.after(() => slow.stop());
        const map = await slow.map("slow");
        const [start] = await slow.publish(map, batch(-1, 0));
        for (let from = 0; from < 400; from += 50) await slow.publish(map, batch(from, from + 50, { padding: "x".repeat(60_000) }));
        const task = { do: "follow", server: slow.url, token: map.token, channel: "map:slow", after: start, count: 400, slow_ms: 8 };
        const driver = await drive(t, task).end();
        assert.deepEqual(driver.numbers, numbered(0, 400));
      });

      test("waits for its turn when there are too many streams", async (t) => {
        const full = await Stentor.start(["--dev"], { "limits.streams_per_token": "1" });
        t.after(() => full.stop());
        const map = await full.map("full");
        const [start] = await full.publish(map, batch(-1, 1));
        const held = new AbortController();
        // kept, because an answer that nobody refers to may be collected, and its connection with it
        const stream = await fetch(map.stream, { headers: { Authorization: `Bearer ${map.token}` }, signal: held.signal });
        const driver = drive(t, { do: "follow", server: full.url, token: map.token, channel: "map:full", after: start, count: 1 });
        await until("it is refused", () => driver.of("error").length > 0);
        const [refused] = driver.of("error");
        assert.deepEqual([refused.status, refused.code], [429, "API_KEY_CONNECTION_LIMIT"]);
        assert.ok(refused.wait_ms >= 500, `it waits ${refused.wait_ms} ms`);
        assert.equal(stream.status, 200);
        held.abort();
        await driver.end();
        assert.deepEqual(driver.numbers, [0]);
      });

      test("ends where waiting does not help", async (t) => {
        const map = await newMap();
        const driver = await drive(t, { do: "follow", token: "st_wrong", channel: `map:${map.slug}` }).end();
        const [fatal] = driver.of("fatal");
        assert.deepEqual([fatal.status, fatal.passing], [401, false]);
      });

      test("takes a token with the line break of the file that it was in, and refuses one that is empty at once", async (t) => {
        const map = await newMap();
        const task = { do: "publish", channel: `map:${map.slug}`, from: 0, to: 1 };
        const driver = await drive(t, { ...task, token: `${map.token}\n` }).end();
        assert.equal(driver.of("id").length, 1);
        assert.match(await drive(t, { ...task, token: " \n" }).complaint(), /token is empty/);
      });

      test("manages maps, organizations, tokens, webhooks and sources", async (t) => {
        const driver = await drive(t, { do: "manage", token: ADMIN, url: "http://127.0.0.1:9/hook" }).end();
        const parts = driver.said.filter(({ event }) => event);
        assert.equal(parts.length, 2);
        for (const { event, active, named, webhook, source, token } of parts) {
          assert.deepEqual([event.type, event.n, active, named, webhook, source, token], ["add_system", 1, false, "renamed", true, true, true]);
        }
        assert.deepEqual(driver.of("on"), [[true]]);
        assert.deepEqual(driver.of("refused"), [{ status: 404, code: "NOT_FOUND" }]);
      });

      test("tells what a webhook sent from what somebody else made of it", async (t) => {
        const cases = await vectors(t, server, await newMap());
        const { said } = await drive(t, { do: "verify", cases }).end();
        assert.deepEqual(said[0].valid, cases.map(({ valid }) => valid), cases.map(({ what }) => what).join("\n"));
      });
    });
  }
});

/** How many streams are open at the server. */
async function streams(server) {
  const text = await (await fetch(`${server.url}/metrics`)).text();
  return Number(/^stentor_streams (\d+)$/m.exec(text)[1]);
}

/** What webhooks of all formats bring, and the same with one thing changed. */
async function vectors(t, server, map) {
  const received = [];
  const receiver = createServer(async (request, response) => {
    const chunks = await request.toArray();
    received.push({ headers: request.headers, body: Buffer.concat(chunks), path: request.url });
    response.end();
  });
  await new Promise((resolve) => receiver.listen(0, "127.0.0.1", resolve));
  t.after(() => receiver.close().closeAllConnections());
  const hooks = {};
  for (const format of ["map", "standard", "gateway", "feed"]) {
    const url = `http://127.0.0.1:${receiver.address().port}/${format}`;
    const body = { url, events: ["add_system"], format };
    hooks[`/${format}`] = (await server.call("POST", `/api/maps/${map.slug}/webhooks`, map.token, body)).data.secret;
  }
  await server.call("PUT", `/api/maps/${map.slug}/webhooks/toggle`, map.token, { enabled: true });
  await server.publish(map, { type: "add_system", payload: { name: "J1ü", n: 1 } });
  await until("all have come", () => received.length === 4);
  const cases = [];
  for (const { headers, body, path } of received) {
    const [format, secret] = [path.slice(1), hooks[path]];
    const given = { body: body.toString("base64"), headers, secret };
    const add = (what, valid, changes = {}) => cases.push({ what: `${format}: ${what}`, valid, ...given, ...changes });
    add("as it came", true);
    add("in the format that it has", true, { format });
    add("another body", false, { body: Buffer.concat([body, Buffer.from(" ")]).toString("base64") });
    add("another secret", false, { secret: Buffer.alloc(32, 7).toString("base64") });
    add("without its headers", false, { headers: {} });
    add("without its headers, in the format that it has", false, { headers: {}, format });
    if (format === "map" || format === "standard") {
      add("too old", false, { now: Math.floor(Date.now() / 1000) + 3600 });
      add("from the future", false, { now: Math.floor(Date.now() / 1000) - 3600 });
    }
    add("as Standard Webhooks has it", true, { format: "standard", secret: `whsec_${secret}` });
  }
  const rotated = received.find(({ path }) => path === "/map");
  const at = rotated.headers["x-wanderer-timestamp"];
  const sign = (key) => `sha256=${createHmac("sha256", key).update(`${at}.`).update(rotated.body).digest("hex")}`;
  const rotation = { "x-wanderer-timestamp": at, "x-wanderer-signature": sign("new"), "x-wanderer-signature-previous": sign("old") };
  for (const [secret, valid] of [["new", true], ["old", true], ["none", false]]) {
    cases.push({ what: `a rotation, with ${secret}`, valid, headers: rotation, body: rotated.body.toString("base64"), secret });
  }
  return cases;
}
