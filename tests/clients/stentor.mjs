// The real server as a child process, and publishers for it. Used by the tests of clients and of the browser.
import { spawn } from "node:child_process";
import { createSocket } from "node:dgram";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";

const binary = process.env.STENTOR_BIN;
if (!binary) throw new Error("STENTOR_BIN names the binary under test; ./run sets it");

export const ADMIN = "admin-token-of-the-client-tests-0123456789";
const START_TIMEOUT_MS = 15_000;

/** Waits until `condition` gives something true, looking every few milliseconds. */
export async function until(what, condition, timeoutMs = 20_000) {
  const deadline = Date.now() + timeoutMs;
  for (;;) {
    const value = await condition();
    if (value) return value;
    if (Date.now() > deadline) throw new Error(`not within ${timeoutMs} ms: ${typeof what === "function" ? what() : what}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

// A socket for datagrams on each port that was given out: as long as this process runs, no other test gets the same one.
const claims = [];

/** Whether this port, free or not, is this process's from now on. */
const claim = (port) =>
  new Promise((resolve) => {
    const socket = createSocket("udp4");
    socket.once("error", () => resolve(false));
    socket.bind({ address: "127.0.0.1", port, exclusive: true }, () => {
      claims.push(socket.unref());
      resolve(true);
    });
  });

const isFree = (port) =>
  new Promise((resolve) => {
    const probe = createServer();
    probe.once("error", () => resolve(false));
    probe.listen(port, "127.0.0.1", () => probe.close(() => resolve(true)));
  });

/** A free port that stays free while the server that uses it is down: below the range from which the kernel gives ports
 * to outgoing connections, and given out once among all tests that run. */
export async function freePort() {
  for (let tries = 0; tries < 100; tries += 1) {
    const port = 15_000 + Math.floor(Math.random() * 15_000);
    if ((await claim(port)) && (await isFree(port))) return port;
  }
  throw new Error("no free port found");
}

/** The kernel's list of sockets at a port, to see from whom a server could not get it. */
function socketsAt(port) {
  const shown = `:${port.toString(16).toUpperCase().padStart(4, "0")} `;
  return readFileSync("/proc/net/tcp", "utf8").split("\n").filter((line) => line.includes(shown)).join("\n");
}

export class Stentor {
  /** Starts a server on a data folder of its own, with flags and settings by key. It keeps all that over `restart`. */
  static async start(flags = [], settings = {}) {
    const server = new Stentor();
    server.flags = flags;
    const variable = ([key, value]) => [`STENTOR__${key.replaceAll(".", "__").toUpperCase()}`, value];
    server.settings = Object.fromEntries(Object.entries(settings).map(variable));
    server.port = await freePort();
    server.url = `${settings["server.tls.cert"] ? "https" : "http"}://127.0.0.1:${server.port}`;
    server.data = mkdtempSync(join(tmpdir(), "stentor-clients-"));
    await server.#run();
    return server;
  }

  async #run() {
    this.child = spawn(binary, ["serve", "--listen", `127.0.0.1:${this.port}`, "--data", this.data, ...this.flags], {
      stdio: ["ignore", "pipe", "pipe"],
      env: {
        ...process.env,
        STENTOR_ADMIN_TOKEN: ADMIN,
        STENTOR__SSE__RETRY_MS: "100",
        STENTOR__STORAGE__DURABILITY: "flush",
        ...this.settings,
      },
    });
    let output = "";
    let errors = "";
    this.child.stdout.on("data", (text) => (output += text));
    this.child.stderr.on("data", (text) => (errors = (errors + text).slice(-2000)));
    this.ended = new Promise((resolve) => this.child.once("exit", (code, signal) => resolve({ code, signal })));
    const started = () => output.includes("listening on ") || this.child.exitCode !== null;
    await until(() => `the server listens; it said: ${errors}`, started, START_TIMEOUT_MS);
    if (this.child.exitCode !== null)
      throw new Error(`the server ended with ${this.child.exitCode}: ${errors}${socketsAt(this.port)}`);
  }

  async restart(signal) {
    this.child.kill(signal);
    const { code } = await this.ended;
    if (signal === "SIGTERM" && code !== 0) throw new Error(`the server ended with ${code} after SIGTERM`);
    await this.#run();
  }

  async stop() {
    this.child.kill("SIGKILL");
    await this.ended;
    rmSync(this.data, { recursive: true, force: true });
  }

  async call(method, path, token, body, headers = {}) {
    const answer = await fetch(this.url + path, {
      method,
      headers: { Authorization: `Bearer ${token}`, "Content-Type": "application/json", ...headers },
      body: typeof body === "object" ? JSON.stringify(body) : body,
      signal: AbortSignal.timeout(10_000),
    });
    const text = await answer.text();
    if (!answer.ok) throw new Error(`${method} ${path}: ${answer.status} ${text}`);
    return JSON.parse(text);
  }

  /** A new map: its id, slug and token, and the address of its stream. */
  async map(slug) {
    const { data } = await this.call("POST", "/api/maps", ADMIN, { name: slug, slug });
    return { ...data, stream: `${this.url}/api/maps/${slug}/events/stream`, path: `/api/maps/${slug}/events` };
  }

  /** A new organization: its id, token and the address of its events. */
  async organization(id) {
    const { data } = await this.call("POST", "/api/v1/organizations", ADMIN, { name: id, id });
    return { ...data, path: `/api/v1/organizations/${id}/events` };
  }

  /** Publishes the body as it stands; gives the ids. */
  async publish(map, body, headers) {
    return (await this.call("POST", map.path, map.token, body, headers)).data.ids;
  }

  /** Each event of the map as the history writes it. */
  async history(map) {
    const headers = { Authorization: `Bearer ${map.token}`, Accept: "application/x-ndjson" };
    const answer = await fetch(this.url + map.path, { headers, signal: AbortSignal.timeout(10_000) });
    return (await answer.text()).trimEnd().split("\n");
  }
}

const EVENTS_MAX = 20_000;

/** Publishes numbered events one after the other until it is stopped, whatever happens to the server, each exactly
 * once: an event whose answer was lost is sent again with its key. */
export class Publisher {
  #stopping = false;

  constructor(server, map) {
    this.acknowledged = 0;
    this.done = this.#run(server, map);
    // whoever stops it sees the failure; until then it is not an unhandled one
    this.done.catch(() => {});
  }

  async #run(server, map) {
    for (let n = 1; n <= EVENTS_MAX && !this.#stopping; n += 1) {
      const body = { type: n % 2 ? "add_system" : "map_kill", payload: { n } };
      const sent = () => server.publish(map, body, { "Idempotency-Key": `event-${n}` }).catch(refused);
      await until(`event ${n} is published`, sent);
      this.acknowledged = n;
    }
  }

  /** Waits until this many more events are acknowledged. */
  async more(count) {
    const goal = this.acknowledged + count;
    await Promise.race([until(`${goal} events are published`, () => this.acknowledged >= goal), this.done]);
  }

  /** Ends it and gives the number of the last event. */
  async stop() {
    this.#stopping = true;
    await this.done;
    return this.acknowledged;
  }
}

/** No connection means to try again; an answer that says no is a failure of the test. */
function refused(error) {
  if (error instanceof TypeError || / 503 /.test(error.message)) return null;
  throw error;
}
