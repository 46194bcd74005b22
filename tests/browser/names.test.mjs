// What people know by a name is shown by it: webhooks, tokens and channels, in what fails, in the record and in a trace.
import assert from "node:assert/strict";
import { test } from "node:test";
import { ADMIN, until } from "../clients/stentor.mjs";
import { DARK, PHONE, REFUSED } from "./dashboard.mjs";
import { receiver } from "./receiver.mjs";
import { impatientWebhookOf, open, serve, server } from "./shared.mjs";

serve();
const LOOKS = [["light", {}], ["dark", DARK], ["phone", PHONE]];

test("a webhook that fails is told by its name and in words, by the keyboard alone it is mended, and what failed is sent again", async (t) => {
  const map = await server.map("shop");
  const [gone, well] = [await receiver(t, 404), await receiver(t)];
  await impatientWebhookOf(map, { url: gone.url, name: "Orders to billing" });
  await server.publish(map, [1, 2, 3, 4, 5, 6, 7].map((n) => ({ type: "order.paid", payload: { n } })));
  const dashboard = await open(t, { token: map.token });
  const { page } = dashboard;
  const trouble = page.getByRole("link", { name: "7 deliveries of “Orders to billing” were given up" });
  await trouble.waitFor();
  await page.locator(".trouble-row", { hasText: "Deliveries of “Orders to billing” fail" }).filter({ hasText: "answered 404" }).waitFor();
  await dashboard.look("names-trouble");

  await trouble.focus();
  await page.keyboard.press("Enter");
  await dashboard.heading("Orders to billing");
  await page.locator(".condition", { hasText: "answered 404" }).waitFor();
  await page.locator(".facts", { hasText: "none: one attempt" }).waitFor();
  await dashboard.button("Edit").focus();
  await page.keyboard.press("Enter");
  await page.getByLabel("Address").focus();
  await page.keyboard.press("Control+A");
  await page.keyboard.type(well.url);
  await page.keyboard.press("Enter");
  await page.getByText("Saved").waitFor();
  // nobody has to ask for the count first
  await dashboard.button("Send again").focus();
  await page.keyboard.press("Enter");
  await page.getByText("7 deliveries would be sent.").waitFor();
  await dashboard.look("names-resend");
  await dashboard.button("Send 7 deliveries").focus();
  await page.keyboard.press("Enter");
  await page.getByRole("status").filter({ hasText: "7 delivered" }).waitFor();
  await page.keyboard.press("Escape");
  await page.locator(".tile", { hasText: "Given up" }).filter({ hasText: "all sent again since" }).waitFor();
  assert.equal(await page.locator(".tile.bad", { hasText: "Given up" }).count(), 0);
  // what the server says many times over is told once
  const admin = await open(t, { token: ADMIN });
  await admin.page.locator(".notice-row", { hasText: "A delivery of “Orders to billing” was given up after 1 attempt (answered 404) 7 times" }).waitFor();
  dashboard.calm(REFUSED);
});

test("the trace of an event names its channel and its webhooks, and leads to them", async (t) => {
  const map = await server.map("traced");
  await server.call("PATCH", `/api/maps/${map.id}`, ADMIN, { name: "The traced map" });
  const receives = await receiver(t);
  const hook = await impatientWebhookOf(map, { url: receives.url, name: "The wall" });
  const [id] = await server.publish(map, { type: "seen", payload: {} });
  await until("it is delivered", () => receives.requests.length === 1);
  for (const [kind, options] of LOOKS) {
    const dashboard = await open(t, { token: map.token, at: `#/map/traced?event=${id}`, ...options });
    const { page } = dashboard;
    await page.getByText("Where it came from, who got it").first().click();
    const trace = page.locator(".trace").first();
    await trace.getByRole("link", { name: "The traced map" }).waitFor();
    await trace.getByText("1. answered 200 after").waitFor();
    await trace.getByRole("link", { name: "first token of traced" }).waitFor();
    assert.ok(!(await trace.textContent()).includes(map.id), "no id where there is a name");
    await dashboard.look(`names-trace-${kind}`);
    await trace.getByRole("link", { name: "The wall" }).click();
    await dashboard.heading("The wall");
    assert.ok(page.url().includes(hook.id) && page.url().includes("delivery=dlv_"), page.url());
    dashboard.calm(REFUSED);
  }
});

test("the record names webhooks and sources, also deleted ones, and leads to those that are there", async (t) => {
  const map = await server.map("told");
  const kept = await impatientWebhookOf(map, { url: "http://127.0.0.1:9/kept", name: "The kept one" });
  const bare = await impatientWebhookOf(map, { url: "http://127.0.0.1:9/bare" });
  await server.call("POST", "/api/webhooks", map.token, { name: "Our GitHub", channel: `map:${map.id}`, authentication: "github" });
  const gone = await fetch(`${server.url}/api/maps/${map.id}/webhooks/${bare.id}`, { method: "DELETE", headers: { Authorization: `Bearer ${map.token}` } });
  assert.equal(gone.status, 204);
  const dashboard = await open(t, { token: ADMIN, at: "#/system?show=record" });
  const { page } = dashboard;
  await page.locator(".event", { hasText: "The webhook to 127.0.0.1:9 of told was deleted" }).waitFor();
  await page.locator(".event", { hasText: "The source “Our GitHub” of told was made" }).waitFor();
  const row = page.locator(".event", { hasText: "The webhook “The kept one” of told was made" });
  await row.locator("summary").first().click();
  await dashboard.look("names-record");
  await row.getByRole("link", { name: "Open the webhook" }).click();
  await dashboard.heading("The kept one");
  assert.ok(page.url().includes(kept.id));
  // among the events of all channels the server's own are sentences as well
  await dashboard.go("#/feed", "All channels");
  await page.locator(".event", { hasText: "The webhook “The kept one” of told was made" }).waitFor();
  dashboard.calm(REFUSED);
});

test("who is connected is told by the name of the token, which leads to it", async (t) => {
  const map = await server.map("watched");
  const { data: token } = await server.call("POST", "/api/v1/tokens", map.token, { scopes: ["subscribe"], name: "the wall of Ann" });
  const stop = new AbortController();
  const stream = await fetch(map.stream, { headers: { Authorization: `Bearer ${token.token}`, "User-Agent": "wall/1" }, signal: stop.signal });
  t.after(() => {
    stop.abort();
    // held until here: a stream that nobody knows any more is closed when memory is looked through
    return stream.text().catch(() => {});
  });
  const dashboard = await open(t, { token: map.token, at: "#/map/watched/connections" });
  const { page } = dashboard;
  const row = page.locator(".connection-row", { hasText: "wall/1" });
  await row.getByRole("link", { name: "the wall of Ann" }).waitFor();
  await row.getByRole("button", { name: /^End/ }).click();
  await page.getByRole("dialog").getByRole("link", { name: "the wall of Ann" }).waitFor();
  await dashboard.look("names-connection");
  await dashboard.button("Cancel").click();
  await row.getByRole("link", { name: "the wall of Ann" }).click();
  await dashboard.heading("Tokens");
  await until("the token alone is shown", async () => (await page.locator(".token-row").count()) === 1);
  dashboard.calm(REFUSED);
});

test("webhooks of many channels are all to be had, what fails first, and searched", async (t) => {
  const receives = await receiver(t, 500);
  const maps = [];
  for (let n = 0; n < 34; n += 1) maps.push(await server.map(`many-${n}`));
  for (const map of maps) await impatientWebhookOf(map, { url: "http://127.0.0.1:9/calm", name: `hook of ${map.slug}`, events: ["never"] });
  await impatientWebhookOf(maps[20], { url: receives.url, name: "The broken one" });
  await server.publish(maps[20], Array.from({ length: 10 }, (_, n) => ({ type: "map_kill", payload: { n } })));
  const dashboard = await open(t, { token: ADMIN, at: "#/webhooks" });
  const { page } = dashboard;
  const rows = page.locator(".hook-row");
  await page.getByText(/These are of the first 30 of \d+ channels/).waitFor();
  await page.getByRole("button", { name: /^Show those of/ }).click();
  await page.locator(".hook-row", { hasText: "hook of many-33" }).waitFor();
  await until("what fails is first", async () => /answered 500/.test(await rows.filter({ hasText: "The broken one" }).textContent()) && (await rows.locator("a.title").allTextContents()).slice(0, 4).includes("The broken one"));
  await page.getByLabel("Search").fill("many-33");
  await until("one is left", async () => (await rows.count()) === 1);
  await dashboard.look("names-webhooks-searched");
  await page.getByLabel("Search").fill("nothing of the kind");
  await page.getByText("No webhook is like that").waitFor();
  await dashboard.go("#/channels", "Channels");
  await page.getByLabel("Search").fill("many-33");
  await until("one channel is left", async () => (await page.locator(".channel-row").count()) === 1);
  await dashboard.go("#/overview", "Overview");
  await page.getByRole("link", { name: /^All \d+ channels$/ }).waitFor();
  dashboard.calm(REFUSED);
});

test("what a source has received is counted as it comes", async (t) => {
  const map = await server.map("counted");
  const { endpoint, secret } = await server.call("POST", "/api/webhooks", map.token, { name: "\u202eturned", channel: `map:${map.id}`, authentication: "api_key" });
  const dashboard = await open(t, { token: map.token, at: `#/source/${endpoint.id}` });
  const { page } = dashboard;
  await dashboard.live();
  await page.locator(".source-facts", { hasText: "0 events" }).waitFor();
  const sent = await fetch(endpoint.url, { method: "POST", headers: { "Content-Type": "application/json", "X-API-Key": secret }, body: JSON.stringify({ type: "order.paid", payload: {} }) });
  assert.equal(sent.status, 200, await sent.text());
  // sooner than the page asks anew by itself
  await page.locator(".event").waitFor();
  await page.locator(".source-facts", { hasText: "1 event," }).waitFor({ timeout: 6000 });
  dashboard.calm(REFUSED);
});
