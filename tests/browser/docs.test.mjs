// The documentation at /docs, and the API reference beside it: Swagger UI over the server's own document, under the policy that lets
// nothing else in.
import assert from "node:assert/strict";
import { mkdirSync } from "node:fs";
import { createServer, request } from "node:http";
import { after, before, test } from "node:test";
import { Stentor } from "../clients/stentor.mjs";
import { Dashboard, launch } from "./dashboard.mjs";

const SHOTS = new URL("shots/", import.meta.url);
let server;
let browser;
before(async () => {
  mkdirSync(SHOTS, { recursive: true });
  server = await Stentor.start();
  browser = await launch();
});
after(async () => {
  await browser?.close();
  await server?.stop();
});

for (const colorScheme of ["light", "dark"]) {
  test(`the reference shows every operation and asks no other host (${colorScheme})`, async (t) => {
    const context = await browser.newContext({ colorScheme });
    context.setDefaultTimeout(20_000);
    t.after(() => context.close());
    const page = await context.newPage();
    const complaints = [];
    const foreign = [];
    page.on("console", (message) => message.type() === "error" && complaints.push(message.text()));
    page.on("pageerror", (error) => complaints.push(String(error)));
    page.on("request", (request) => {
      const url = new URL(request.url());
      if (url.protocol !== "data:" && url.protocol !== "blob:" && url.origin !== server.url) foreign.push(request.url());
    });
    await page.goto(`${server.url}/docs/reference`);
    await page.locator(".opblock-tag").first().waitFor();
    const document = await (await fetch(`${server.url}/openapi.json`)).json();
    for (const { name } of document.tags) {
      const tag = page.locator(`.opblock-tag[data-tag="${name}"]`);
      if ((await tag.getAttribute("data-is-open")) !== "true") await tag.click();
    }
    const operations = Object.values(document.paths).reduce((count, item) => count + Object.keys(item).length, 0);
    await page.waitForFunction((count) => globalThis.document.querySelectorAll(".opblock").length === count, operations);
    const publish = page.locator("#operations-Events-publish_map_events");
    await publish.locator(".opblock-summary-control").click();
    await publish.locator(".responses-table").first().waitFor();
    assert.match(await publish.innerText(), /Idempotency-Key/);
    assert.match(await publish.innerText(), /JOURNAL_FULL/);
    await publish.scrollIntoViewIfNeeded();
    await page.screenshot({ path: new URL(`reference-${colorScheme}.png`, SHOTS).pathname });
    assert.deepEqual(foreign, []);
    assert.deepEqual(complaints, []);
  });
}

for (const { name, javaScriptEnabled, colorScheme, viewport } of [
  { name: "light", javaScriptEnabled: true, colorScheme: "light", viewport: { width: 1280, height: 800 } },
  { name: "dark", javaScriptEnabled: true, colorScheme: "dark", viewport: { width: 1280, height: 800 } },
  { name: "phone", javaScriptEnabled: true, colorScheme: "light", viewport: { width: 390, height: 844 } },
  { name: "without scripts", javaScriptEnabled: false, colorScheme: "light", viewport: { width: 1280, height: 800 } },
]) {
  test(`a question leads to the page that answers it (${name})`, async (t) => {
    const context = await browser.newContext({ colorScheme, viewport, javaScriptEnabled });
    context.setDefaultTimeout(20_000);
    t.after(() => context.close());
    const page = await context.newPage();
    const complaints = [];
    page.on("console", (message) => message.type() === "error" && complaints.push(message.text()));
    page.on("pageerror", (error) => complaints.push(String(error)));
    await page.goto(`${server.url}/docs`);
    if (javaScriptEnabled) await page.keyboard.press("/");
    else await page.getByRole("searchbox").focus();
    await page.keyboard.type("how do I raise the limit of streams");
    await page.keyboard.press("Enter");
    await page.waitForURL(/\/docs\/search\?q=how/);
    const answer = page.locator(".found li").filter({ hasText: "Raise a limit" });
    await answer.waitFor();
    const dashboard = new Dashboard(page, server);
    if (javaScriptEnabled) assert.deepEqual(await dashboard.faults(), []);
    await page.screenshot({ path: new URL(`docs-search-${name.replaceAll(" ", "-")}.png`, SHOTS).pathname });
    await answer.getByRole("link").click();
    await page.waitForURL(/\/docs\/errors#/);
    assert.match(await page.locator("main").innerText(), /limits\.streams_per_token/);
    assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth + 1), "it does not scroll sideways");
    if (javaScriptEnabled) assert.deepEqual(await dashboard.faults(), []);
    await page.screenshot({ path: new URL(`docs-${name.replaceAll(" ", "-")}.png`, SHOTS).pathname });
    assert.deepEqual(complaints, []);
  });
}

test("below the path of a proxy that strips it, the pages find all they need and the reference asks there", async (t) => {
  const proxy = createServer((from, to) => {
    if (!from.url.startsWith("/live/")) return to.writeHead(404).end();
    const headers = { ...from.headers, "x-forwarded-prefix": "/live" };
    const on = request({ port: server.port, path: from.url.slice("/live".length), method: from.method, headers }, (answer) => {
      to.writeHead(answer.statusCode, answer.headers);
      answer.pipe(to);
    });
    from.pipe(on);
  });
  await new Promise((resolve) => proxy.listen(0, "127.0.0.1", resolve));
  t.after(() => proxy.closeAllConnections() ?? proxy.close());
  const base = `http://127.0.0.1:${proxy.address().port}/live`;
  const context = await browser.newContext();
  context.setDefaultTimeout(20_000);
  t.after(() => context.close());
  for (const [path, found] of [["/docs/reference", ".opblock-tag"], ["/docs", "h1"], ["/docs/operations/nginx", "h1"], ["/", "h1"]]) {
    const page = await context.newPage();
    const lost = [];
    page.on("response", (answer) => answer.status() === 404 && lost.push(answer.url()));
    await page.goto(`${base}${path}`);
    await page.locator(found).first().waitFor();
    assert.deepEqual(lost, []);
  }
  const page = context.pages()[0];
  assert.match(await page.locator(".servers").innerText(), /\/live\//);
  await page.getByRole("link", { name: "Dashboard" }).click();
  await page.waitForURL(`${base}/`);
});
