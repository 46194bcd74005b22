// The picture of the README: what `stentor demo` shows a few seconds after it was started, in light and in dark. It is looked at in each
// run, and kept in docs/pictures when STENTOR_WRITE_DOCS is set.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdirSync, readFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { after, before, test } from "node:test";
import { freePort } from "../clients/stentor.mjs";
import { Dashboard, launch } from "./dashboard.mjs";

const PICTURES = new URL("../../docs/pictures/", import.meta.url);
/** The README stays quick to load. */
const PICTURE_BYTES_MAX = 400_000;
const demo = { url: "", token: "" };
let browser;
before(async () => {
  const port = await freePort();
  demo.url = `http://127.0.0.1:${port}`;
  demo.child = spawn(process.env.STENTOR_BIN, ["demo", "--listen", `127.0.0.1:${port}`], { stdio: ["ignore", "pipe", "ignore"] });
  for await (const line of createInterface({ input: demo.child.stdout })) {
    demo.token ||= /^admin token: (\S+)/.exec(line)?.[1] ?? "";
    if (line.includes("A receiver at")) break;
  }
  demo.child.stdout.resume();
  // more than the demo's own pace brings in a second
  const headers = { Authorization: `Bearer ${demo.token}`, "Content-Type": "application/json" };
  const types = await (await fetch(`${demo.url}/api/event-types?family=maps`, { headers })).json();
  const events = types.data.slice(0, 10).map(({ type, example }) => ({ type, payload: example }));
  const answer = await fetch(`${demo.url}/api/maps/demo/events`, { method: "POST", headers, body: JSON.stringify({ events }) });
  assert.equal(answer.status, 201, await answer.text());
  browser = await launch();
});
after(async () => {
  await browser?.close();
  const ended = new Promise((resolve) => demo.child.once("close", resolve));
  demo.child.kill("SIGTERM");
  await ended;
});

for (const colorScheme of ["light", "dark"]) {
  test(`the demo shows events as they come (${colorScheme})`, async (t) => {
    const options = { token: demo.token, at: "#map=demo", colorScheme, viewport: { width: 1280, height: 800 }, deviceScaleFactor: 1 };
    const dashboard = await Dashboard.open(t, browser, demo, options);
    const { page } = dashboard;
    await dashboard.live();
    await page.waitForFunction(() => document.querySelectorAll(".event").length >= 8);
    await page.locator(".event").nth(3).click();
    const picture = await page.screenshot();
    assert.ok(picture.length < PICTURE_BYTES_MAX, `${picture.length} bytes`);
    const path = new URL(`dashboard-${colorScheme}.png`, PICTURES).pathname;
    if (process.env.STENTOR_WRITE_DOCS) {
      mkdirSync(PICTURES, { recursive: true });
      await page.screenshot({ path });
    }
    // PNG, of the size that is shown
    const kept = readFileSync(path);
    assert.deepEqual([kept.toString("latin1", 1, 4), kept.readUInt32BE(16), kept.readUInt32BE(20)], ["PNG", 1280, 800]);
    dashboard.calm();
  });
}
