// A real browser against the real server: a page of another origin, and the page at the root.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import { createRequire } from "node:module";
import { after, before, test } from "node:test";
import { chromium } from "playwright-core";
import { Publisher, Stentor, until } from "../clients/stentor.mjs";

const CHROMIUM = process.env.CHROMIUM ?? "/usr/bin/chromium";
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
  browser = await chromium.launch({
    executablePath: CHROMIUM,
    args: [
      "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
      "--disable-background-networking", "--disable-component-update", "--disable-sync",
    ],
  });
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
  await page.waitForFunction(() => window.native.opened === 1 && window.polyfill.opened === 1);
  const publisher = new Publisher(server, map);
  for (const [round, signal] of ["SIGKILL", "SIGTERM"].entries()) {
    await publisher.more(30);
    await server.restart(signal);
    await page.waitForFunction((n) => window.native.opened > n && window.polyfill.opened > n, round + 1);
  }
  await publisher.more(30);
  const total = await publisher.stop();
  const stored = (await server.history(map)).map((data) => ({ id: JSON.parse(data).id, data }));
  assert.equal(stored.length, total);
  const newest = stored.at(-1).id;
  for (const name of ["native", "polyfill"]) {
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

test("the page at the root shows the events of a map, filters them by type, and keeps its token to itself", async (t) => {
  const map = await server.map("live");
  await server.publish(map, { type: "rally_point_added", payload: { system_name: "Thera" } });
  const { page, complaints } = await open(t, { viewport: { width: 390, height: 800 } });
  const addresses = [];
  page.on("request", (request) => addresses.push(request.url()));
  await page.goto(`${server.url}/#map=live&token=${map.token}`);
  await page.waitForFunction(() => document.querySelector("#state").textContent === "Live");
  await server.publish(map, [
    { type: "add_system", payload: { name: "J123456", note: "<b onclick=alert(1)>\u2028" } },
    { type: "map_kill", payload: { value: 250000000, victim: { ship: "Loki" } } },
  ]);
  const types = page.locator("#events .type:visible");
  await page.waitForFunction(() => document.querySelectorAll("#events .event").length === 3);
  assert.deepEqual(await types.allTextContents(), ["map_kill", "add_system", "rally_point_added"]);
  assert.equal(await page.locator("#count").textContent(), "3");

  await page.locator("#events summary").first().focus();
  await page.keyboard.press("Enter");
  assert.match(await page.locator("#events pre").first().textContent(), /"ship": "Loki"/);
  await page.locator("#types button", { hasText: "add_system" }).click();
  assert.deepEqual(await types.allTextContents(), ["add_system"]);
  assert.equal(await page.locator("#events b").count(), 0);
  const sideways = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
  assert.ok(sideways <= 0, `the page is ${sideways} px too wide for a phone`);

  assert.ok(!page.url().includes(map.token));
  assert.deepEqual(addresses.filter((address) => address.split("#")[0].includes(map.token)), []);
  assert.deepEqual(complaints, []);
});

test("the page at the root comes back after a restart of the server with every event once", async (t) => {
  const map = await server.map("back");
  const { page } = await open(t);
  await page.goto(`${server.url}/#map=back&token=${map.token}`);
  await page.waitForFunction(() => document.querySelector("#state").textContent === "Live");
  const publisher = new Publisher(server, map);
  await publisher.more(20);
  await server.restart("SIGKILL");
  await publisher.more(20);
  await publisher.stop();
  const newest = (await server.history(map)).map((text) => JSON.parse(text).id).reverse().slice(0, 200);
  await page.waitForFunction((id) => document.querySelector("#events .event")?.dataset.id === id, newest[0]);
  const shown = await page.locator("#events .event").evaluateAll((items) => items.map((item) => item.dataset.id));
  assert.deepEqual(shown, newest);
});

test("the page at the root asks for a map and a token, and says why a token is refused", async (t) => {
  const map = await server.map("form");
  const { page } = await open(t);
  await page.goto(server.url);
  await page.getByLabel("Map").fill("form");
  await page.getByLabel("Token").fill("wrong");
  await page.getByRole("button", { name: "Connect" }).click();
  await page.locator("#problem", { hasText: /token/i }).waitFor();
  await page.getByLabel("Token").fill(map.token);
  await page.keyboard.press("Enter");
  await page.waitForFunction(() => document.querySelector("#state").textContent === "Live");
});
