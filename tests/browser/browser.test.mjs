// A page of another origin in a real browser, against the real server.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import { createRequire } from "node:module";
import { after, before, test } from "node:test";
import { Publisher, Stentor, until } from "../clients/stentor.mjs";
import { launch } from "./dashboard.mjs";

const polyfill = readFileSync(createRequire(import.meta.url).resolve("event-source-polyfill/src/eventsource.js"));
const files = {
  "/": ["text/html", readFileSync(new URL("page.html", import.meta.url))],
  "/eventsource.js": ["text/javascript", polyfill],
};

let server;
let browser;
let other;
before(async () => {
  server = await Stentor.start();
  browser = await launch();
  other = createServer((request, response) => {
    const [type, body] = files[request.url] ?? ["text/plain", ""];
    response.writeHead(body ? 200 : 404, { "Content-Type": type }).end(body);
  });
  await new Promise((resolve) => other.listen(0, "127.0.0.1", resolve));
});
after(async () => {
  await browser?.close();
  other?.close();
  await server?.stop();
});

/** A new page that notes what its console complains about. */
async function open(t, options) {
  const context = await browser.newContext(options);
  context.setDefaultTimeout(15_000);
  t.after(() => context.close());
  const page = await context.newPage();
  const complaints = [];
  page.on("console", (message) => ["error", "warning"].includes(message.type()) && complaints.push(message.text()));
  page.on("pageerror", (error) => complaints.push(String(error)));
  return { page, complaints };
}

test("a page of another origin loses and repeats no event over a kill and a stop of the server", async (t) => {
  const map = await server.map("elsewhere");
  const { page } = await open(t);
  const hash = new URLSearchParams({ stream: map.stream, token: map.token });
  await page.goto(`http://127.0.0.1:${other.address().port}/#${hash}`);
  await page.waitForFunction(() => [window.native, window.polyfill, window.module, window.socket].every(({ opened }) => opened === 1));
  const publisher = new Publisher(server, map);
  for (const [round, signal] of ["SIGKILL", "SIGTERM"].entries()) {
    await publisher.more(30);
    await server.restart(signal);
    await page.waitForFunction((n) => [window.native, window.polyfill, window.module, window.socket].every(({ opened }) => opened > n), round + 1);
  }
  await publisher.more(30);
  const total = await publisher.stop();
  const stored = (await server.history(map)).map((data) => ({ id: JSON.parse(data).id, data }));
  assert.equal(stored.length, total);
  const newest = stored.at(-1).id;
  for (const name of ["native", "polyfill", "module", "socket"]) {
    const state = () => page.evaluate((n) => {
      const { messages, errors, opened, source } = window[n];
      return { messages, errors, opened, readyState: source.readyState };
    }, name);
    let now;
    await until(
      () => `${name} has the last event; ${now.messages.length} messages, ${now.errors} errors, state ${now.readyState}`,
      async () => (now = await state()).messages.at(-1)?.id === newest,
    );
    assert.deepEqual(now.messages, stored, name);
  }
});
