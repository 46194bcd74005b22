// The API reference at /docs: Swagger UI over the server's own document, under the policy that lets nothing else in.
import assert from "node:assert/strict";
import { mkdirSync } from "node:fs";
import { after, before, test } from "node:test";
import { chromium } from "playwright-core";
import { Stentor } from "../clients/stentor.mjs";

const SHOTS = new URL("shots/", import.meta.url);
let server;
let browser;
before(async () => {
  mkdirSync(SHOTS, { recursive: true });
  server = await Stentor.start();
  browser = await chromium.launch({
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    args: ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"],
  });
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
    await page.goto(`${server.url}/docs`);
    await page.locator(".opblock-tag").first().waitFor();
    const document = await (await fetch(`${server.url}/openapi.json`)).json();
    for (const { name } of document.tags) {
      const tag = page.locator(`.opblock-tag[data-tag="${name}"]`);
      if ((await tag.getAttribute("data-is-open")) !== "true") await tag.click();
    }
    const operations = Object.values(document.paths).reduce((count, item) => count + Object.keys(item).length, 0);
    await page.waitForFunction((count) => globalThis.document.querySelectorAll(".opblock").length === count, operations);
    const publish = page.locator("#operations-Events-post_api_maps_map_events");
    await publish.locator(".opblock-summary-control").click();
    await publish.locator(".responses-table").first().waitFor();
    assert.match(await publish.innerText(), /Idempotency-Key/);
    assert.match(await publish.innerText(), /JOURNAL_FULL/);
    await publish.scrollIntoViewIfNeeded();
    await page.screenshot({ path: new URL(`docs-${colorScheme}.png`, SHOTS).pathname });
    assert.deepEqual(foreign, []);
    assert.deepEqual(complaints, []);
  });
}
