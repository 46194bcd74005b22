// Sources in the dashboard: made with code to copy that works, and what they refused.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { ADMIN, until } from "../clients/stentor.mjs";
import { REFUSED } from "./dashboard.mjs";
import { open, serve, server } from "./shared.mjs";

serve();

/** Runs what the dashboard gives to copy. */
function run(language, code) {
  const folder = mkdtempSync(join(tmpdir(), "stentor-copied-"));
  const [command, file] = { curl: ["bash", "run.sh"], node: [process.execPath, "run.mjs"], python: ["python3", "run.py"] }[language];
  writeFileSync(join(folder, file), code);
  return new Promise((resolve) => {
    execFile(command, [join(folder, file)], { timeout: 15_000 }, (error, out, err) => {
      rmSync(folder, { recursive: true, force: true });
      resolve(error ? `${error.message} ${err}` : out);
    });
  });
}

test("a source is made, and what it gives to copy works in each language and is shown live", async (t) => {
  await server.map("intake");
  const dashboard = await open(t, { token: ADMIN, at: "#/sources" });
  const { page } = dashboard;
  let expected = 0;
  const kinds = ["hmac", "api_key", "standard", "none"];
  for (const authentication of kinds) {
    await dashboard.button("New source").click();
    await page.getByLabel("Name").fill(`Sender by ${authentication}`);
    await page.getByLabel("Events go to").selectOption({ label: "intake" });
    await page.getByLabel("Senders prove themselves by").selectOption(authentication);
    if (authentication === "hmac") await dashboard.look("source-new");
    await dashboard.button("Create").click();
    await page.getByRole("heading", { name: "The source is there" }).waitFor();
    for (const [language, label] of [["curl", "curl"], ["node", "Node"], ["python", "Python"]]) {
      await dashboard.button(label).click();
      const code = await page.getByRole("region", { name: `Send with ${language}` }).textContent();
      const said = await run(language, code);
      assert.match(said, /accepted["']?: ?1/, `${authentication} ${language}: ${said}\n${code}`);
      expected += 1;
    }
    if (authentication === "hmac") await dashboard.look("source-made");
    if (authentication !== kinds.at(-1)) await dashboard.button("Done").click();
  }
  await page.getByRole("link", { name: "Open it" }).click();
  await page.locator(".event").nth(2).waitFor();
  await dashboard.look("source-live");
  await dashboard.go("#/map/intake", "intake");
  await until("the map has them all", async () => (await page.locator(".event").count()) === expected);
  dashboard.calm();
});

test("what a source refused is shown with the reason, tried again and removed", async (t) => {
  const map = await server.map("refusals");
  const { endpoint } = await server.call("POST", "/api/webhooks", map.token, { name: "Game server", authentication: "none" });
  const post = (body) => fetch(endpoint.url, { method: "POST", headers: { "Content-Type": "application/json" }, body });
  await post('{"user_id": "user_123"}');
  await post("not JSON at all");
  const dashboard = await open(t, { token: map.token, at: `#/source/${endpoint.id}/refused` });
  const { page } = dashboard;
  await page.locator(".letter").nth(1).waitFor();
  await page.locator(".letter", { hasText: "event_type" }).locator("summary").click();
  await page.getByRole("region", { name: "Body as it was sent" }).filter({ hasText: "user_123" }).waitFor();
  await dashboard.look("source-refused");
  await dashboard.go(`#/source/${endpoint.id}/settings`);
  await page.getByLabel("Where the type stands").fill("header: X-Event\nfallback");
  await page.getByLabel("Schema").fill("user_id: strin");
  await dashboard.button("Save").click();
  await page.locator(".problem, .trouble").first().waitFor();
  await page.getByLabel("Schema").fill("user_id: string");
  await dashboard.button("Save").click();
  await page.locator(".toast", { hasText: "Saved" }).waitFor();
  await dashboard.look("source-settings");
  await dashboard.go(`#/source/${endpoint.id}/refused`);
  await page.locator(".letter", { hasText: "event_type" }).locator("summary").click();
  await dashboard.button("Try again").click();
  await page.locator(".letter", { hasText: "event_type" }).waitFor({ state: "detached" });
  await dashboard.button("Remove all").click();
  await page.getByRole("dialog").getByRole("button", { name: "Remove" }).click();
  await page.getByRole("heading", { name: "Nothing was refused" }).waitFor();
  await dashboard.go(`#/source/${endpoint.id}`);
  await page.locator(".event", { hasText: "fallback" }).filter({ hasText: "valid" }).waitFor();
  await dashboard.go(`#/source/${endpoint.id}/send`);
  await page.getByRole("region", { name: "Send with curl" }).waitFor();
  await dashboard.look("source-send");
  await dashboard.button("Pause").click();
  await page.locator(".badges .badge", { hasText: "Paused" }).waitFor();
  await dashboard.button("Delete").click();
  await page.getByRole("dialog").getByRole("button", { name: "Delete" }).click();
  await page.getByRole("heading", { name: "No sources yet" }).waitFor();
  await dashboard.look("sources-empty");
  dashboard.calm(REFUSED);
});
