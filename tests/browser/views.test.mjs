// Every view of the dashboard, empty and full, in light, in dark and on a phone.
import assert from "node:assert/strict";
import { test } from "node:test";
import { ADMIN } from "../clients/stentor.mjs";
import { DARK, PHONE, REFUSED } from "./dashboard.mjs";
import { receiver } from "./receiver.mjs";
import { open, serve, server } from "./shared.mjs";

serve();

test("every view stands the test of axe and of a phone, in light and in dark, empty and full", async (t) => {
  const empty = await server.map("nothing-yet");
  const map = await server.map("full");
  const types = (await (await fetch(`${server.url}/api/event-types?family=maps`)).json()).data;
  await server.publish(map, types.map(({ type, example }) => ({ type, payload: example })));
  const long = "a name that goes on and on, as names do that nobody has to type twice ".repeat(2).trim();
  await server.publish(map, { type: "x".repeat(64), payload: { [`key_${"y".repeat(200)}`]: "z".repeat(3000), list: Array.from({ length: 500 }, (_, n) => n), long } });
  await server.call("PATCH", `/api/maps/${map.id}`, ADMIN, { name: long.slice(0, 100) });
  const receives = await receiver(t, 500);
  await server.call("PUT", `/api/maps/${map.id}/webhooks/toggle`, ADMIN, { enabled: true });
  const hook = (await server.call("POST", `/api/maps/${map.id}/webhooks`, ADMIN, { url: `${receives.url}/${"path".repeat(40)}`, filter: 'event.type == "map_kill" || event.type == "rally_point_added"' })).data;
  await server.publish(map, { type: "map_kill", payload: { value: 1 } });
  const { endpoint: source } = await server.call("POST", "/api/webhooks", map.token, { name: long, authentication: "none" });
  await fetch(source.url, { method: "POST", headers: { "Content-Type": "application/json" }, body: '{"event_type":"purchase","properties":{"amount":9.99}}' });

  const views = [
    ["overview", "#/overview", (page) => page.locator(".plot canvas").first().waitFor()],
    ["channels", "#/channels", (page) => page.locator(".channel-row").nth(2).waitFor()],
    ["live", "#/map/full", async (page) => {
      await page.locator(".event").nth(5).waitFor();
      await page.locator(".event", { hasText: "xxx" }).locator("summary").first().click();
      await page.locator(".payload .tree").waitFor();
    }],
    ["live-empty", "#/map/nothing-yet", (page) => page.getByRole("heading", { name: "Listening" }).waitFor()],
    ["channel-figures", "#/map/full/figures", (page) => page.locator(".plot canvas").first().waitFor()],
    ["connections", "#/connections", (page) => page.locator(".connection-row").first().waitFor()],
    ["feed", "#/feed", (page) => page.locator(".event").nth(5).waitFor()],
    ["publish", "#/map/full/publish", (page) => page.getByLabel("Payload").waitFor()],
    ["settings", "#/map/full/settings", (page) => page.getByLabel("Slug").waitFor()],
    ["channel-missing", "#/map/nowhere", (page) => page.getByRole("alert").waitFor()],
    ["webhooks", "#/webhooks", (page) => page.locator(".hook-row").waitFor()],
    ["webhook", `#/webhook/map/${map.id}/${hook.id}`, async (page) => {
      await page.locator(".delivery summary").first().click();
      await page.locator(".attempt").first().waitFor();
    }],
    ["sources", "#/sources", (page) => page.locator(".hook-row").waitFor()],
    ["source", `#/source/${source.id}`, (page) => page.locator(".event").first().waitFor()],
    ["source-send", `#/source/${source.id}/send`, (page) => page.getByRole("region", { name: "Send with curl" }).waitFor()],
    ["tokens", "#/tokens", (page) => page.locator(".token-row").nth(1).waitFor()],
    ["system", "#/system", (page) => page.locator(".state[data-state=open]").waitFor()],
    ["nowhere", "#/nowhere", (page) => page.getByRole("heading", { name: "There is nothing here" }).waitFor()],
  ];
  for (const [kind, options] of [["", {}], ["-dark", DARK], ["-phone", PHONE]]) {
    const dashboard = await open(t, { ...options, token: ADMIN });
    await dashboard.heading("Overview");
    for (const [name, at, ready] of views) {
      await dashboard.go(at);
      await ready(dashboard.page);
      await dashboard.look(`${name}${kind}`, { fullPage: kind === "-phone" && name !== "live" });
    }
    dashboard.calm(REFUSED);
    await dashboard.page.context().close();
  }
  assert.ok(empty.id);
});
