// How a person finds something again: an event by words of its payload, a delivery by its time, who changed what.
import assert from "node:assert/strict";
import { test } from "node:test";
import { ADMIN, until } from "../clients/stentor.mjs";
import { expressionOf } from "../../static/app/words.js";
import { DARK, PHONE, REFUSED } from "./dashboard.mjs";
import { receiver } from "./receiver.mjs";
import { open, serve, server } from "./shared.mjs";

// few events a page, so that a search needs many; then more may be in a channel than can be counted, too, which browsers complain of
serve({ "limits.scan_events": 1000 });

test("words that are typed become an expression that the server takes, whatever is in them", async () => {
  const map = await server.map("words");
  const names = ["plain", 'a "quoted" name', "back\\slash", "Ärger", "line\u2028end", "{brace}", "event", "it's", "ID7", "\u{1f600}"];
  const ids = await server.publish(map, names.map((name) => ({ type: "add_system", payload: { name } })));
  for (const [n, name] of names.entries()) {
    for (const words of [name, name.toUpperCase(), ids[n].replace("evt_", "")]) {
      const filter = encodeURIComponent(expressionOf(words));
      const { data } = await server.call("GET", `${map.path}?filter=${filter}`, map.token);
      assert.deepEqual(data.map(({ id }) => id), [ids[n]], words);
    }
  }
  assert.equal(expressionOf(" event.payload.n > 1 "), "event.payload.n > 1");
  assert.equal(expressionOf("  "), "");
});

test("an event of the past is found by words of its payload, far back, and says who got it", async (t) => {
  const map = await server.map("needle");
  const receives = await receiver(t);
  await server.call("PUT", `/api/maps/${map.id}/webhooks/toggle`, map.token, { enabled: true });
  await server.call("POST", `/api/maps/${map.id}/webhooks`, map.token, { url: receives.url, name: "The wall", events: ["order.paid"] });
  await server.publish(map, { type: "order.paid", payload: { order: "A-1009", customer: { name: "Zoë Quinn" } } });
  for (let n = 0; n < 30; n += 1) await server.publish(map, Array.from({ length: 100 }, (_, i) => ({ type: "noise", payload: { n, i } })));
  const dashboard = await open(t, { token: map.token, at: "#/map/needle" });
  const { page } = dashboard;
  const found = page.locator(".event", { hasText: "order.paid" });
  await dashboard.live();
  await page.getByLabel("Search").fill('a-1009 "zoë quinn"');
  await dashboard.button("Find").click();
  await found.waitFor();
  await page.getByText("Events with all these words").waitFor();
  assert.equal(await page.locator(".event").count(), 1);
  await found.locator("summary").first().click();
  await page.getByText("Where it came from, who got it").click();
  await page.locator(".trace", { hasText: receives.url }).waitFor();
  await dashboard.look("found");
  await dashboard.button("Clear filters").click();
  await page.getByLabel("Search").fill("nothing of the kind");
  await page.keyboard.press("Enter");
  await page.getByRole("heading", { name: "Nothing passes the filter yet" }).waitFor();
  dashboard.calm(REFUSED);
});

test("events of all channels say which channel is theirs, and lead to it", async (t) => {
  const [north, south] = [await server.map("north"), await server.map("south")];
  await server.call("PATCH", `/api/maps/${north.id}`, ADMIN, { name: "The \u202enorth" });
  await server.publish(north, { type: "from_north", payload: {} });
  const [id] = await server.publish(south, { type: "from_south", payload: {} });
  for (const [kind, options] of [["light", {}], ["dark", DARK], ["phone", PHONE]]) {
    const dashboard = await open(t, { token: ADMIN, at: "#/feed", ...options });
    const { page } = dashboard;
    await page.locator(".event", { hasText: "from_north" }).filter({ hasText: "The \u202enorth" }).waitFor();
    await page.locator(".event", { hasText: "from_south" }).filter({ hasText: "south" }).locator("summary").first().click();
    await dashboard.look(`feed-names-${kind}`);
    await page.getByRole("link", { name: "Link to it" }).click();
    await page.getByRole("heading", { name: /^The event/ }).waitFor();
    assert.ok(page.url().includes(`#/map/${south.id}?event=${id.replace("evt_", "")}`), page.url());
    dashboard.calm(REFUSED);
  }
});

test("deliveries are narrowed by a span of time, a class of answers and the keyboard alone", async (t) => {
  const map = await server.map("spans");
  const receives = await receiver(t, 503);
  await server.call("PUT", `/api/maps/${map.id}/webhooks/toggle`, map.token, { enabled: true });
  const hook = (await server.call("POST", `/api/maps/${map.id}/webhooks`, map.token, { url: receives.url, retry_policy: { policy: "constant", delaySeconds: 1, attempts: 1 } })).data;
  await server.publish(map, { type: "map_kill", payload: {} });
  for (const [kind, options] of [["light", {}], ["dark", DARK], ["phone", PHONE]]) {
    const dashboard = await open(t, { token: map.token, at: `#/webhook/map/${map.id}/${hook.id}`, ...options });
    const { page } = dashboard;
    const rows = page.locator(".delivery");
    await rows.first().waitFor();
    await page.getByLabel("Code").focus();
    await page.keyboard.type("5xx, timeout");
    await page.keyboard.press("Enter");
    await page.waitForFunction(() => location.hash.includes("code=5xx"));
    await rows.first().waitFor();
    await page.getByLabel("From").fill("2999-01-01T00:00");
    await page.getByRole("heading", { name: "No delivery is like that" }).waitFor();
    await dashboard.look(`deliveries-none-${kind}`, { fullPage: true });
    await page.getByLabel("From").fill("2020-01-01T00:00");
    await rows.first().waitFor();
    await dashboard.look(`deliveries-narrowed-${kind}`, { fullPage: true });
    await page.getByLabel("Code").fill("time out");
    await dashboard.button("Apply").click();
    await page.getByRole("alert").filter({ hasText: "5xx" }).waitFor();
    dashboard.calm(REFUSED);
  }
});

test("the record of who changed what is searched by the names that people know", async (t) => {
  const map = await server.map("recorded");
  const { data: token } = await server.call("POST", "/api/v1/tokens", map.token, { scopes: ["publish"], name: "the leaked bot" });
  await server.call("PATCH", `/api/v1/tokens/${token.id}`, ADMIN, { name: "the bot of Ann" });
  for (let n = 0; n < 5; n += 1) await server.map(`other-${n}`);
  const odd = await server.map("odd");
  await server.call("PATCH", `/api/maps/${odd.id}`, ADMIN, { name: "Odd \u202emap" });
  for (const [kind, options] of [["light", {}], ["dark", DARK], ["phone", PHONE]]) {
    const dashboard = await open(t, { token: ADMIN, at: "#/system", ...options });
    const { page } = dashboard;
    await dashboard.button("Who changed what").click();
    await page.locator(".event", { hasText: "made the token the leaked bot for recorded: publish" }).filter({ hasText: "The token “first token of recorded”" }).waitFor();
    await page.locator(".event", { hasText: "Odd map was changed by the admin" }).waitFor();
    await dashboard.look(`record-${kind}`);
    await page.getByLabel("Search").fill("ann");
    await page.keyboard.press("Enter");
    await until("one name leads to what was done", async () => (await page.locator(".event .said").allTextContents()).some((said) => said.includes("The admin changed the token the bot of Ann")));
    await page.getByLabel("Search").fill('"first token of recorded"');
    await page.keyboard.press("Enter");
    await until("the name of who did it, too", async () => {
      const said = await page.locator(".event .said").allTextContents();
      return said.length > 0 && said.every((text) => text.includes("recorded"));
    });
    assert.match(page.url(), /show=record/);
    await dashboard.button("What happened").click();
    await page.getByRole("heading", { name: /Nothing passes the filter yet/ }).waitFor();
    dashboard.calm();
  }
});

test("a token that has leaked is found by its text, which never stands in the address, and revoked", async (t) => {
  const map = await server.map("leaky");
  const made = [];
  for (let n = 0; n < 7; n += 1) made.push((await server.call("POST", "/api/v1/tokens", map.token, { scopes: ["publish"], name: `bot ${n}` })).data);
  const dashboard = await open(t, { token: map.token, at: "#/tokens" });
  const { page } = dashboard;
  await page.getByLabel("Search").fill(made[4].token);
  await until("one is left", async () => (await page.locator(".token-row").count()) === 1);
  assert.ok(!page.url().includes(made[4].token) && !(await page.getByLabel("Search").inputValue()).includes(made[4].token));
  await dashboard.look("token-leaked");
  await dashboard.button("Revoke bot 4").click();
  await dashboard.button("Revoke").click();
  await until("the others are shown", async () => (await page.locator(".token-row").count()) === 7);
  await assert.rejects(server.call("GET", "/api/v1/tokens/current", made[4].token), / 401 /);
  await page.getByLabel("Search").fill(made[4].token);
  await page.getByText("No token has this text").waitFor();
  dashboard.calm(REFUSED);
});

test("a channel's first token has the name that it is given", async (t) => {
  const dashboard = await open(t, { token: ADMIN, at: "#/channels" });
  const { page } = dashboard;
  await dashboard.button("New channel").click();
  await page.getByLabel("Name", { exact: true }).fill("Workshop");
  await page.getByLabel("Who gets its first token").fill("Ann's laptop");
  await dashboard.look("channel-new");
  await dashboard.button("Create").click();
  await dashboard.button("Done").click();
  await dashboard.go("#/tokens", "Tokens");
  await page.locator(".token-row", { hasText: "Ann's laptop" }).filter({ hasText: "Workshop" }).waitFor();
  dashboard.calm(REFUSED);
});
