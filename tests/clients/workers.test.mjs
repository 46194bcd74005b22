// The workers that docs/workers.md prints, as they stand there, against the real server.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { test } from "node:test";
import { Proxy } from "./cut.mjs";
import { Stentor, until } from "./stentor.mjs";

const EVENTS = 50_000;
const BATCH = 500;
const CUTS = 20;
const BEGINNING = `evt_${"0".repeat(26)}`;
const RESTARTS = new Map([[25, "SIGTERM"], [50, "SIGKILL"], [75, "SIGTERM"]]);
const here = import.meta.dirname;

/** The block of docs/workers.md that its reader would put into this file. */
function fromPage(name) {
  const page = readFileSync(join(here, "../../docs/workers.md"), "utf8");
  const block = page.match(new RegExp(`<!-- docs: file ${name} -->[^\`]*\`\`\`\\w+\\n(.*?)\n\`\`\``, "s"));
  assert.ok(block, `docs/workers.md has no block for ${name}`);
  return block[1];
}

/** A worker as a process. It has printed `lines`; `errors` is what it said on standard error. */
class Worker {
  constructor(folder, [program, file], { url, token, cursor }) {
    this.file = file;
    this.cursor = join(folder, `cursor-of-${file}`);
    writeFileSync(this.cursor, cursor);
    writeFileSync(join(folder, file), fromPage(file));
    this.lines = [];
    this.errors = [];
    this.child = spawn(program, [join(folder, file)], {
      stdio: ["ignore", "pipe", "pipe"],
      env: { ...process.env, STENTOR: url, TOKEN: token, CURSOR: this.cursor, PYTHONDONTWRITEBYTECODE: "1" },
    });
    createInterface(this.child.stdout).on("line", (line) => this.lines.push(line));
    createInterface(this.child.stderr).on("line", (line) => this.errors.push(line));
    this.ended = new Promise((resolve) => this.child.once("close", resolve));
  }

  connected() {
    return this.errors.filter((line) => line === "connected").length;
  }

  async stop() {
    this.child.kill("SIGKILL");
    await this.ended;
  }
}

const programs = [[process.execPath, "worker.mjs"], [join(here, ".venv/bin/python"), "worker.py"]];

/** Publishes again until it is answered: the key makes that safe. */
function publish(server, organization, number) {
  const events = Array.from({ length: BATCH }, (_, i) => ({
    event: "message", session: `sess_${i % 7}`, payload: { n: number * BATCH + i },
  }));
  const headers = { "Idempotency-Key": `batch-${number}` };
  return until(`batch ${number} is published`, () =>
    server.publish(organization, { events }, headers).catch((error) => {
      if (error instanceof TypeError || / 503 /.test(error.message)) return null;
      throw error;
    }),
  );
}

test("workers follow 50,000 events over 20 cuts and 3 restarts: none missing, none twice, in order", async () => {
  const server = await Stentor.start();
  const proxy = await Proxy.start(server.port);
  const organization = await server.organization("workers");
  const folder = mkdtempSync(join(here, ".worker-"));
  const { token } = organization;
  const workers = programs.map((program) => new Worker(folder, program, { url: proxy.url, token, cursor: BEGINNING }));
  const said = () => workers.map((w) => `${w.file}: ${w.lines.length} lines, ${w.errors.slice(-3).join(" | ")}`).join("; ");
  /** The next batch is published while they are away. */
  const comeBack = async (what, breakIt) => {
    const before = workers.map((worker) => worker.connected());
    await breakIt();
    await until(() => `all come back after ${what}: ${said()}`, () => workers.every((w, i) => w.connected() > before[i]));
  };
  try {
    await until(() => `both are connected: ${said()}`, () => workers.every((worker) => worker.connected() === 1));
    const ids = [];
    for (let number = 0; number < EVENTS / BATCH; number += 1) {
      if (RESTARTS.has(number)) await comeBack("the restart", () => server.restart(RESTARTS.get(number)));
      ids.push(...(await publish(server, organization, number)));
      if (number % (EVENTS / BATCH / CUTS) === 2) {
        await until(() => `both are on their way: ${said()}`, () => workers.every((w) => w.lines.length > ids.length - 4 * BATCH));
        await comeBack("the cut", () => proxy.cut());
      }
    }
    await until(() => `all events are handled: ${said()}`, () => workers.every((w) => w.lines.length >= ids.length));
    for (const worker of workers) {
      const [seen, numbers] = [[], []];
      for (const line of worker.lines) {
        seen.push(line.split(" ", 1)[0]);
        numbers.push(JSON.parse(line.slice(line.indexOf("{"))).n);
      }
      assert.ok(worker.connected() > CUTS + RESTARTS.size, worker.file);
      assert.deepEqual(seen, ids, worker.file);
      assert.deepEqual(numbers, Array.from({ length: EVENTS }, (_, n) => n), worker.file);
      assert.equal(readFileSync(worker.cursor, "utf8"), ids.at(-1), worker.file);
    }
    // who goes back to an older cursor asks for a repetition, and gets that and no more
    await Promise.all(workers.map((worker) => worker.stop()));
    const again = programs.map((program) => new Worker(folder, program, { url: server.url, token, cursor: ids.at(-11) }));
    workers.push(...again);
    await until(() => `the repeated ones are handled: ${said()}`, () => again.every((w) => w.lines.length >= 10));
    const [last] = await server.publish(organization, { event: "message" });
    await until(() => `and the next: ${said()}`, () => again.every((w) => w.lines.length >= 11));
    for (const worker of again) {
      assert.deepEqual(worker.lines.map((line) => line.split(" ", 1)[0]), [...ids.slice(-10), last], worker.file);
    }
  } finally {
    await Promise.all(workers.map((worker) => worker.stop()));
    proxy.stop();
    rmSync(folder, { recursive: true, force: true });
    await server.stop();
  }
});

test("a worker whose token is not good says so and ends", async () => {
  const server = await Stentor.start();
  const folder = mkdtempSync(join(here, ".worker-"));
  const workers = programs.map((program) => new Worker(folder, program, { url: server.url, token: "st_wrong", cursor: "" }));
  try {
    for (const worker of workers) {
      assert.equal(await worker.ended, 1, worker.file);
      assert.match(worker.errors.join("\n"), /unauthorized/, worker.file);
    }
  } finally {
    await Promise.all(workers.map((worker) => worker.stop()));
    rmSync(folder, { recursive: true, force: true });
    await server.stop();
  }
});
