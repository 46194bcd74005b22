// The answers that owners of sources in raw mode choose are served from the address of the dashboard. Whatever stands in them,
// nothing of it runs there.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { ADMIN, Stentor } from "../clients/stentor.mjs";
import { launch } from "./dashboard.mjs";

const RAN = `localStorage.setItem("ran", "1"); document.title = "ran"; top.ran = 1;`;
const ANSWERS = {
  "text/plain": `<!doctype html><title>x</title><script>${RAN}</script><img src=x onerror='${RAN}'>`,
  "text/plain; charset=utf-7": `+ADw-script+AD4-${RAN}+ADw-/script+AD4-`,
  "text/xml": `<html xmlns="http://www.w3.org/1999/xhtml"><head><title>x</title><script>${RAN}</script></head><body onload='${RAN}'/></html>`,
  "application/json": `{"html":"<script>${RAN.replaceAll('"', "'")}</script>"}`,
};
const SCRIPT = { "text/plain": RAN, "text/xml": RAN, "application/json": RAN };

let server;
let browser;
before(async () => {
  server = await Stentor.start(["--dev"]);
  browser = await launch();
});
after(async () => {
  await browser?.close();
  await server?.stop();
});

async function source(map, type, body, status = 200) {
  const asked = { authentication: "none", mode: "raw", response: { status, headers: { "Content-Type": type }, body } };
  const { endpoint } = await server.call("POST", "/api/webhooks", map.token, asked);
  return endpoint.url;
}

test("an answer that a source's owner chose never runs at the address of the dashboard", async (t) => {
  const map = await server.map("answers");
  const context = await browser.newContext();
  context.setDefaultTimeout(15_000);
  t.after(() => context.close());
  const dashboard = await context.newPage();
  await dashboard.goto(`${server.url}/`);
  await dashboard.evaluate((token) => localStorage.setItem("secret", token), ADMIN);
  const ran = () => dashboard.evaluate(() => [localStorage.getItem("ran"), window.ran ?? null, document.title === "ran"]);

  for (const status of [200, 404]) {
    for (const [type, body] of Object.entries(ANSWERS)) {
      const url = await source(map, type, body, status);
      // as a page of its own
      const page = await context.newPage();
      await page.goto(url);
      const seen = await page.evaluate(() => {
        let storage = "open";
        try {
          storage = String(localStorage.getItem("secret"));
        } catch (e) {
          storage = e.name;
        }
        return { origin: self.origin, title: document.title, storage };
      });
      assert.equal(seen.origin, "null", `${type}: it has no origin`);
      assert.notEqual(seen.title, "ran", type);
      assert.equal(seen.storage, "SecurityError", `${type}: nothing of the dashboard is in its reach`);
      await page.close();
      // within the dashboard
      await dashboard.evaluate((src) => new Promise((resolve) => {
        const frame = Object.assign(document.createElement("iframe"), { src, onload: resolve, onerror: resolve });
        document.body.append(frame);
        setTimeout(resolve, 2_000);
      }), url);
      assert.deepEqual(await ran(), [null, null, false], type);
    }
  }
  // as a script, and as a worker of the dashboard's own
  for (const [type, body] of Object.entries(SCRIPT)) {
    const url = await source(map, type, body);
    const outcomes = await dashboard.evaluate(async (src) => {
      const script = new Promise((resolve) => {
        document.head.append(Object.assign(document.createElement("script"), { src, onload: () => resolve("ran"), onerror: () => resolve("blocked") }));
      });
      const worker = navigator.serviceWorker.register(src).then(() => "registered", (e) => e.name);
      return [await script, await worker];
    }, url);
    assert.equal(outcomes[0], "blocked", type);
    assert.notEqual(outcomes[1], "registered", type);
    assert.deepEqual(await ran(), [null, null, false], type);
  }
});
