// Channels in the dashboard: made, published into, renamed and deleted.
import assert from "node:assert/strict";
import { test } from "node:test";
import { ADMIN, until } from "../clients/stentor.mjs";
import { REFUSED } from "./dashboard.mjs";
import { open, serve, server } from "./shared.mjs";

serve();

test("an admin makes a map and an organization, whose tokens are shown once and work", async (t) => {
  const dashboard = await open(t, { token: ADMIN, at: "#/channels" });
  const { page } = dashboard;
  for (const [kind, name, field, id] of [["map", "Home chain", "Slug (optional)", "made-here"], ["organization", "Acme", "Id (optional)", "acme"]]) {
    await dashboard.button("New channel").click();
    await page.getByLabel("Kind").selectOption(kind);
    await page.getByLabel("Name").fill(name);
    await page.getByLabel(field).fill(id);
    await dashboard.look(`channel-new-${kind}`);
    await dashboard.button("Create").click();
    const token = (await page.getByRole("region", { name: "Secret" }).textContent()).trim();
    await dashboard.look(`channel-made-${kind}`);
    const path = kind === "map" ? `/api/maps/${id}/events` : `/api/v1/organizations/${id}/events`;
    await server.call("POST", path, token, { type: "hello", payload: { to: name } });
    await dashboard.button("Done").click();
    await page.getByRole("link", { name, exact: true }).waitFor();
  }
  await page.getByRole("link", { name: "Acme", exact: true }).click();
  await page.locator(".event", { hasText: "hello" }).waitFor();
  await dashboard.go("#/channels", "Channels");
  await dashboard.button("New channel").click();
  await page.getByLabel("Name").fill("Again");
  await page.getByLabel("Slug (optional)").fill("made-here");
  await dashboard.button("Create").click();
  await page.locator("dialog .problem, dialog .trouble").first().waitFor();
  dashboard.calm(REFUSED);
});

test("an event is published by the form, with the example of its type, and bad JSON is explained", async (t) => {
  const map = await server.map("form");
  const dashboard = await open(t, { token: map.token, at: "#/map/form/publish" });
  const { page } = dashboard;
  await page.getByLabel("Type").fill("map_kill");
  await until("the example is there", async () => (await page.getByLabel("Payload").inputValue()).includes("killmail_id"));
  await dashboard.look("publish");
  await dashboard.button("Publish").click();
  await page.getByText("Stored as").waitFor();
  await page.getByLabel("Payload").fill("{");
  await dashboard.button("Publish").click();
  await page.locator(".problem", { hasText: "not JSON" }).waitFor();
  const [stored] = (await server.history(map)).map((text) => JSON.parse(text));
  assert.ok(stored.payload.killmail_id);
  dashboard.calm();
});

test("a channel is renamed, and deleted by whoever types its name", async (t) => {
  await server.map("short-lived");
  const dashboard = await open(t, { token: ADMIN, at: "#/map/short-lived/settings" });
  const { page } = dashboard;
  await page.getByLabel("Name", { exact: true }).fill("Renamed");
  await page.getByLabel("Slug").fill("renamed");
  await dashboard.button("Save").click();
  await dashboard.heading("Renamed");
  await dashboard.look("settings");
  await dashboard.button("Delete this channel").click();
  assert.ok(await dashboard.button("Delete").isDisabled());
  await page.getByLabel("Type renamed to confirm").fill("renamed");
  await dashboard.look("settings-delete");
  await dashboard.button("Delete").click();
  await dashboard.heading("Channels");
  assert.equal(await page.getByRole("link", { name: "Renamed" }).count(), 0);
  dashboard.calm();
});
