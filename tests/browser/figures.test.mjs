// What needs attention, figures over time, and what the pages of channels, webhooks, sources, tokens and connections have beside
// their main paths.
import assert from "node:assert/strict";
import { test } from "node:test";
import { ADMIN, Stentor, until } from "../clients/stentor.mjs";
import { DARK, Dashboard, PHONE, REFUSED } from "./dashboard.mjs";
import { receiver } from "./receiver.mjs";
import { browser, impatientWebhookOf, open, serve, server } from "./shared.mjs";

serve();

test("the overview names the webhook that fails, leads to it, and what failed is sent again from there", async (t) => {
  const map = await server.map("culprit");
  const receives = await receiver(t, 500);
  await impatientWebhookOf(map, { url: receives.url, name: "The wall in the office" });
  await server.publish(map, Array.from({ length: 7 }, (_, n) => ({ type: "map_kill", payload: { n } })));
  const dashboard = await open(t, { token: map.token });
  const { page } = dashboard;
  const trouble = page.locator(".trouble-row", { hasText: "were given up" });
  await trouble.waitFor();
  await page.locator(".trouble-row", { hasText: "fail" }).filter({ hasText: "answered 500" }).first().waitFor();
  await page.locator(".tile.bad", { hasText: "Deliveries that arrive" }).filter({ hasText: "0 %" }).waitFor();
  await dashboard.look("overview-attention");
  await trouble.locator("a.title").click();
  await dashboard.heading("The wall in the office");
  await page.locator(".tile.bad", { hasText: "Given up" }).filter({ hasText: "7" }).waitFor();
  await page.locator(".condition", { hasText: "Failing" }).filter({ hasText: "answered 500" }).waitFor();
  await dashboard.look("webhook-figures", { fullPage: true });
  receives.status = 200;
  await dashboard.button("Retry all that failed…").click();
  await page.getByText("7 deliveries would be sent.").waitFor();
  await page.getByRole("dialog").getByRole("button", { name: /^Send 7/ }).click();
  await page.getByRole("status").filter({ hasText: "7 delivered" }).waitFor();
  await dashboard.button("Close", { exact: true }).last().click();
  await page.locator(".delivery", { hasText: "delivered" }).filter({ hasText: "replay" }).first().waitFor();
  await dashboard.go("#/overview", "Overview");
  await page.getByText("Nothing needs attention.").waitFor();
  dashboard.calm();
});

test("charts go over an hour, a day and a week, are read by keyboard, and are zoomed together", async (t) => {
  const map = await server.map("charts");
  await server.publish(map, Array.from({ length: 20 }, (_, n) => ({ type: "add_system", payload: { n } })));
  const dashboard = await open(t, { token: ADMIN });
  const { page } = dashboard;
  const events = page.locator(".plot", { has: page.getByRole("heading", { name: "Events" }) });
  await events.locator("canvas").waitFor();
  for (const [name, at] of [["24 hours", /window=24h/], ["7 days", /window=7d/], ["1 hour", /overview$/]]) {
    await dashboard.button(name).click();
    await page.waitForFunction((text) => document.querySelector('.segments [aria-pressed="true"]')?.textContent === text, name);
    assert.match(page.url(), at);
    await events.locator("canvas").waitFor();
  }
  const canvas = events.locator(".canvas");
  await until("the newest events are in the chart", async () => /published (?!–)/.test(await canvas.getAttribute("aria-label")));
  await canvas.focus();
  await page.keyboard.press("ArrowLeft");
  const told = () => events.locator("[aria-live]").textContent();
  await until("a point is read out", async () => /published/.test(await told()));
  const first = await told();
  await page.keyboard.press("ArrowLeft");
  await until("and the one before", async () => (await told()) !== first);
  await page.keyboard.press("+");
  await dashboard.button("Show all of it").waitFor();
  await dashboard.look("overview-zoomed");
  await dashboard.button("Show all of it").click();
  await page.getByText("Drag across a chart").waitFor();
  const box = await canvas.boundingBox();
  await page.mouse.move(box.x + box.width * 0.4, box.y + 50);
  await page.mouse.down();
  await page.mouse.move(box.x + box.width * 0.8, box.y + 50, { steps: 4 });
  await page.mouse.up();
  await dashboard.button("Show all of it").waitFor();
  assert.ok(!dashboard.addresses.some((address) => address.includes("/metrics")), "the dashboard asks for no metrics");
  dashboard.calm();
});

test("deliveries are found by text, type and code, an address leads to one of them, and to its event", async (t) => {
  const map = await server.map("narrow");
  const receives = await receiver(t);
  const hook = await impatientWebhookOf(map, { url: receives.url });
  const at = `#/webhook/map/${map.id}/${hook.id}`;
  await server.publish(map, [{ type: "map_kill", payload: { value: 1 } }, { type: "add_system", payload: { name: "J1" } }]);
  await until("they arrive", () => receives.requests.length === 2);
  receives.status = 503;
  const [failed] = await server.publish(map, { type: "map_kill", payload: { value: 2 } });
  const dashboard = await open(t, { token: map.token, at });
  const { page } = dashboard;
  const rows = page.locator(".delivery");
  await page.locator(".delivery", { hasText: "given up" }).waitFor();
  await page.getByLabel("Code").fill("503");
  await dashboard.button("Apply").click();
  await until("one is left", async () => (await rows.count()) === 1);
  assert.match(page.url(), /code=503/);
  await rows.locator("summary").first().click();
  await page.locator(".attempt", { hasText: "Answered 503" }).waitFor();
  await dashboard.button("Copy as curl").click();
  const curl = await page.evaluate(() => navigator.clipboard.readText());
  assert.match(curl, /^curl -X POST 'http:[\s\S]+map_kill/);
  assert.match(page.url(), /delivery=dlv_/);
  await dashboard.look("webhook-narrowed", { fullPage: true });
  await dashboard.button("Clear").click();
  await page.getByLabel("Type").fill("add_system");
  await page.getByLabel("Text").fill("no such text");
  await dashboard.button("Apply").click();
  await page.getByRole("heading", { name: "No delivery is like that" }).waitFor();

  // the address alone opens the delivery, and its event is one click away
  const other = await open(t, { token: map.token, at: page.url().split("/").slice(3).join("/") });
  await other.page.locator(".attempt", { hasText: "Answered 503" }).waitFor();
  await other.page.locator(".detail a", { hasText: failed }).click();
  await other.page.getByRole("heading", { name: /^The event/ }).waitFor();
  await other.page.locator(".tree", { hasText: "value" }).waitFor();
  await other.look("event-alone");
  dashboard.calm();
  other.calm();
});

test("a filter and a template are rehearsed on events that are there, and shown as a difference", async (t) => {
  const map = await server.map("rehearsed");
  await server.publish(map, [1, 2_000_000, 3].map((value) => ({ type: "map_kill", payload: { value } })));
  const receives = await receiver(t);
  const hook = await impatientWebhookOf(map, { url: receives.url });
  const dashboard = await open(t, { token: map.token, at: `#/webhook/map/${map.id}/${hook.id}` });
  const { page } = dashboard;
  await dashboard.button("Edit").click();
  await page.getByLabel("Filter expression").fill("event.payload.value > 1000000.0");
  await page.getByLabel("Format").selectOption("discord");
  await dashboard.button("Try it on past events").click();
  await page.locator(".rehearsal", { hasText: "1 of 3 events would be sent" }).waitFor();
  await page.locator(".rehearsal .more summary").first().click();
  await page.locator(".diff .plus").first().waitFor();
  await dashboard.look("webhook-rehearsed");
  await page.getByLabel("Filter expression").fill("event.payload.value >");
  await dashboard.button("Try it on past events").click();
  await page.locator(".rehearsal .trouble").waitFor();
  await dashboard.button("Cancel").click();
  assert.equal(receives.requests.length, 0, "nothing was sent");
  await dashboard.button("Send a test").click();
  await page.getByLabel("Type of the event").selectOption("rally_point_added");
  await dashboard.button("Send again").click();
  await until("the chosen type is sent", () => receives.requests.some(({ body }) => body.includes("rally_point_added")));
  dashboard.calm(REFUSED);
});

test("a channel shows when its events came, leads to a time and to one event, and says who is connected", async (t) => {
  const map = await server.map("visited");
  const ids = await server.publish(map, [1, 2, 3].map((n) => ({ type: "add_system", payload: { n, created_at: 1_750_000_000_000 } })));
  const dashboard = await open(t, { token: map.token, at: `#/map/visited?event=${ids[1]}` });
  const { page } = dashboard;
  await page.getByRole("heading", { name: /^The event/ }).waitFor();
  await page.locator(".tree", { hasText: "Jun" }).first().waitFor();
  await page.getByRole("link", { name: "Close" }).click();
  await page.locator(".bar:not(.none)").first().waitFor();
  await page.locator(".histogram", { hasText: "3 events in 24 hours, of 1 type" }).waitFor();
  await page.locator(".picker summary").first().click();
  const types = page.getByRole("group", { name: "Show only these types" });
  assert.deepEqual(await types.locator(".mono").allTextContents(), ["add_system"], "the channel's own types, and no others");
  await page.keyboard.press("Escape");
  await dashboard.look("channel-histogram");
  await page.locator(".bar:not(.none)").last().click();
  await dashboard.button("Back to live").waitFor();
  await until("all of them are before the end of the bar", async () => (await page.locator(".event").count()) === 3);
  await dashboard.button("Back to live").click();
  await dashboard.live();
  await page.getByLabel("Go to a time").fill("2020-01-01T00:00:00");
  await dashboard.button("Go").click();
  await page.getByRole("heading", { name: "Nothing happened before that" }).waitFor();
  await dashboard.go("#/map/visited?event=01J00000000000000000000000");
  await page.getByRole("heading", { name: "It is not there" }).waitFor();
  await dashboard.go("#/map/visited/figures");
  await page.locator(".plot canvas").first().waitFor();
  await dashboard.look("channel-figures");

  const reader = await fetch(`${server.url}/api/maps/visited/events/stream`, { headers: { Authorization: `Bearer ${map.token}`, "User-Agent": "wall-display/2" } });
  await dashboard.go("#/map/visited/connections");
  const row = page.locator(".connection-row", { hasText: "wall-display/2" });
  await row.waitFor();
  await dashboard.look("channel-connections");
  await row.getByRole("button").click();
  await dashboard.button("End it").click();
  await row.waitFor({ state: "detached" });
  await reader.text();
  await page.getByRole("heading", { name: "Nobody is connected" }).waitFor();
  dashboard.calm();
});

test("a dead letter is shown with its headers, corrected and taken in", async (t) => {
  const map = await server.map("letters");
  const { endpoint } = await server.call("POST", "/api/webhooks", map.token, { name: "Shop", authentication: "none" });
  await fetch(endpoint.url, { method: "POST", headers: { "Content-Type": "application/json", "X-Shop": "7" }, body: '{"user_id": 1' });
  const dashboard = await open(t, { token: map.token, at: `#/source/${endpoint.id}/refused` });
  const { page } = dashboard;
  await page.locator(".tabs .badge", { hasText: "1" }).waitFor();
  await page.locator(".letter summary").first().click();
  await page.locator(".letter .more summary").click();
  await page.getByRole("region", { name: "Headers as they came" }).filter({ hasText: "x-shop: 7" }).or(page.getByRole("region", { name: "Headers as they came" }).filter({ hasText: "X-Shop: 7" })).waitFor();
  await dashboard.button("Edit").click();
  await page.getByLabel("What is taken in instead of the body").fill('{"event_type": "purchase", "user_id": 1}');
  await dashboard.look("letter-edited");
  await dashboard.button("Take this in").click();
  await page.getByRole("heading", { name: "Nothing was refused" }).waitFor();
  await page.locator(".tabs .badge").waitFor({ state: "detached" });
  const [stored] = (await server.history(map)).map((text) => JSON.parse(text));
  assert.equal(stored.type, "purchase");
  dashboard.calm();
});

test("tokens say when they were used, are searched, renamed and given an end", async (t) => {
  const map = await server.map("many-tokens");
  for (let n = 0; n < 6; n += 1) await server.call("POST", "/api/v1/tokens", map.token, { scopes: ["publish"], name: `bot ${n}` });
  const dashboard = await open(t, { token: map.token, at: "#/tokens" });
  const { page } = dashboard;
  await page.locator(".token-row", { hasText: "first token" }).filter({ hasText: "used just now" }).waitFor();
  await page.locator(".token-row", { hasText: "bot 3" }).filter({ hasText: "not used yet" }).waitFor();
  await page.getByLabel("Search").fill("bot 3");
  await until("one is left", async () => (await page.locator(".token-row").count()) === 1);
  await dashboard.button("Change bot 3").click();
  await page.getByRole("dialog").getByLabel("Name").fill("the \u202egnp.exe bot");
  await page.getByRole("dialog").getByLabel("Expires").fill("2999-01-01T00:00");
  await dashboard.button("Save").click();
  await page.getByLabel("Search").fill("gnp");
  await page.locator(".token-row", { hasText: "expires in" }).waitFor();
  await dashboard.look("tokens-searched");
  await page.getByLabel("Search").fill("nothing of the kind");
  await page.getByRole("heading", { name: "No token is like that" }).waitFor();
  dashboard.calm();
});

test("a thousand events a second leave the page calm: few repaints, and memory that does not grow", async (t) => {
  const seconds = Number(process.env.STENTOR_FLOOD_SECONDS ?? 4);
  const map = await server.map("flood");
  const dashboard = await open(t, { token: map.token, at: "#/map/flood" });
  const { page } = dashboard;
  await dashboard.live();
  const devtools = await page.context().newCDPSession(page);
  await devtools.send("Performance.enable");
  const measured = async () => {
    await devtools.send("HeapProfiler.collectGarbage");
    return Object.fromEntries((await devtools.send("Performance.getMetrics")).metrics.map(({ name, value }) => [name, value]));
  };
  const batch = (n) => Array.from({ length: 100 }, (_, i) => ({ type: ["map_kill", "add_system"][i % 2], payload: { n, i, name: "J123456", value: 250_000_000 } }));
  const flood = async (seconds) => {
    for (let n = 0; n < 10 * seconds; n += 1) {
      const begun = performance.now();
      await server.publish(map, batch(n));
      await new Promise((resolve) => setTimeout(resolve, Math.max(0, 100 - (performance.now() - begun))));
    }
  };
  await flood(2);
  await page.getByText(/events a second, too fast to read/).waitFor();
  const [before, begun] = [await measured(), performance.now()];
  await flood(seconds);
  const [now, took] = [await measured(), (performance.now() - begun) / 1000];
  const share = (now.TaskDuration - before.TaskDuration) / took;
  const [heap, grown] = [now.JSHeapUsedSize / 2 ** 20, (now.JSHeapUsedSize - before.JSHeapUsedSize) / 2 ** 20];
  t.diagnostic(`main thread ${Math.round(100 * share)} %, ${await page.locator("#received").textContent()} events, heap ${heap.toFixed(1)} MiB, ${grown.toFixed(1)} more than before`);
  assert.ok(share < 0.5, `the main thread was busy for ${Math.round(100 * share)} % of the time`);
  assert.ok(grown < 10, `the heap has grown by ${grown} MiB`);
  assert.ok((await page.locator(".event").count()) <= 300);
  await dashboard.look("live-flood");
  await page.getByText(/events a second, too fast to read/).waitFor({ state: "detached" });
  const last = JSON.parse((await server.history(map)).at(-1));
  await until("the newest is shown", async () => (await page.locator(".event").first().getAttribute("data-id")) === last.id);
  dashboard.calm();
});

test("hostile and endless names do no harm, in the dark and on a phone", async (t) => {
  const own = await Stentor.start(["--dev"]);
  t.after(() => own.stop());
  const map = await own.map("odd");
  const receives = await receiver(t, 500);
  const name = `\u202e<img src=x onerror=alert(1)> ${"W".repeat(120)}`;
  await own.call("PATCH", `/api/maps/${map.id}`, ADMIN, { name });
  await own.call("PUT", `/api/maps/${map.id}/webhooks/toggle`, ADMIN, { enabled: true });
  const { data: hook } = await own.call("POST", `/api/maps/${map.id}/webhooks`, ADMIN, { url: `${receives.url}/${"x".repeat(300)}`, name, retry_policy: { policy: "constant", delaySeconds: 1, attempts: 1 } });
  await own.publish(map, Array.from({ length: 6 }, () => ({ type: "x".repeat(64), payload: { [`\u202e${"k".repeat(90)}`]: "<script>alert(1)</script>" } })));
  for (const [kind, options] of [["phone", PHONE], ["dark", DARK]]) {
    const dashboard = await Dashboard.open(t, browser, own, { ...options, token: ADMIN });
    const { page } = dashboard;
    await page.locator(".trouble-row").first().waitFor();
    await dashboard.look(`hostile-overview-${kind}`, { fullPage: true });
    await dashboard.go(`#/webhook/map/${map.id}/${hook.id}`);
    await page.locator(".plot canvas").first().waitFor();
    await page.locator(".delivery summary").first().click();
    await page.locator(".attempt").first().waitFor();
    await dashboard.look(`hostile-webhook-${kind}`, { fullPage: true });
    await dashboard.go("#/map/odd");
    await page.locator(".event").first().waitFor();
    await dashboard.look(`hostile-live-${kind}`);
    assert.equal(await page.locator("img").count(), 0);
    dashboard.calm();
  }
});

test("the reference shows what is sent, too, and an example of each message", async (t) => {
  const dashboard = await open(t, { at: "docs/streams" });
  const { page } = dashboard;
  await dashboard.heading("Streams and deliveries");
  await page.getByLabel("Search for a type").fill("rally_point_added");
  await page.locator(".stream .more summary").first().click();
  await page.getByRole("region", { name: "The schema" }).filter({ hasText: "solar_system_id" }).waitFor();
  await dashboard.look("docs-streams");
  dashboard.calm();
});
