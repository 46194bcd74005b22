// Who gets into the dashboard: logging in by a token or a link, and tokens that are made, shared and revoked.
import assert from "node:assert/strict";
import { test } from "node:test";
import { ADMIN, until } from "../clients/stentor.mjs";
import { PHONE, REFUSED } from "./dashboard.mjs";
import { open, serve, server } from "./shared.mjs";

serve();

test("the dashboard asks for a token, says why one is refused, and keeps a good one to this tab", async (t) => {
  const map = await server.map("login");
  const dashboard = await open(t);
  const { page } = dashboard;
  await dashboard.heading("Stentor");
  await dashboard.look("login");
  await page.getByLabel("Token").fill("st_wrong");
  await dashboard.button("Log in").click();
  await page.locator(".problem", { hasText: /token/i }).waitFor();
  await dashboard.look("login-refused");
  await page.getByLabel("Token").fill(map.token);
  await page.keyboard.press("Enter");
  await dashboard.heading("Overview");
  assert.deepEqual(await page.evaluate(() => [JSON.stringify(localStorage), document.cookie]), ["{}", ""]);
  assert.deepEqual(dashboard.addresses.filter((address) => address.includes(map.token) || !address.startsWith(server.url)), []);
  dashboard.calm(REFUSED);
  await dashboard.button("Log out").click();
  await dashboard.heading("Stentor");
  assert.equal(await page.evaluate(() => sessionStorage.length), 0);
});

test("an address with map and token opens the map live, filters it, and loses the token", async (t) => {
  const map = await server.map("live");
  await server.publish(map, { type: "rally_point_added", payload: { system_name: "Thera" } });
  const dashboard = await open(t, { ...PHONE, at: `#map=live&token=${map.token}` });
  const { page } = dashboard;
  await dashboard.live();
  await page.locator(".event").waitFor();
  await server.publish(map, [
    { type: "add_system", payload: { name: "J123456", note: "<b onclick=alert(1)>\u2028" } },
    { type: "map_kill", payload: { value: 250000000, victim: { ship: "Loki" } } },
  ]);
  const types = page.locator(".event .type");
  await until("all are there", async () => (await types.count()) === 3);
  assert.deepEqual(await types.allTextContents(), ["map_kill", "add_system", "rally_point_added"]);
  assert.equal(await page.locator("#received").textContent(), "2");

  await page.locator(".event summary").first().focus();
  await page.keyboard.press("Enter");
  await page.locator(".payload .tree", { hasText: '"Loki"' }).waitFor();
  await dashboard.look("live-phone");
  assert.equal(await page.locator(".event b").count(), 0);

  await page.locator(".picker summary").click();
  await page.getByRole("checkbox", { name: /^add_system/ }).check();
  await until("only one type is left", async () => (await types.allTextContents()).join() === "add_system");
  await server.publish(map, [{ type: "map_kill", payload: {} }, { type: "add_system", payload: { name: "J2" } }]);
  await until("the new one is there", async () => (await types.allTextContents()).join() === "add_system,add_system");

  assert.ok(!page.url().includes(map.token));
  assert.deepEqual(dashboard.addresses.filter((address) => address.split("#")[0].includes(map.token)), []);
  dashboard.calm();
});

test("a link with another login asks before it takes the place of the one that is there", async (t) => {
  const [mine, theirs] = [await server.map("mine"), await server.map("theirs")];
  const dashboard = await open(t, { at: `#token=${mine.token}` });
  const { page } = dashboard;
  await dashboard.heading("Overview");
  const held = () => page.evaluate(() => sessionStorage.getItem("stentor.token"));
  const dialog = page.getByRole("dialog");
  await dashboard.go(`#map=${theirs.id}&token=${theirs.token}`);
  await dialog.getByText("another login").waitFor();
  assert.ok(!page.url().includes(theirs.token));
  await dashboard.look("login-offer");
  await dashboard.button("Cancel").click();
  await dialog.waitFor({ state: "detached" });
  assert.equal(await held(), mine.token);

  await dashboard.go(`#token=${mine.token}`);
  await page.waitForFunction(() => !location.hash.includes("token"));
  assert.equal(await dialog.count(), 0, "the same login is no other one");
  await dashboard.go(`#token=${theirs.token}`);
  await dashboard.button("Log in anew").click();
  await until("the other login is there", async () => (await held()) === theirs.token);
  await dialog.waitFor({ state: "detached" });

  // a link that is void leaves the session as it is
  await dashboard.go("#login=stl_used");
  await dashboard.button("Log in anew").click();
  await dialog.getByText(/log in with a token/).waitFor();
  assert.equal(await held(), theirs.token);
  dashboard.calm(REFUSED);
});

test("the link of the start is exchanged for the admin token, and a void one leads to the login", async (t) => {
  const dashboard = await open(t, {});
  const { page } = dashboard;
  await dashboard.heading("Stentor");
  const asked = [];
  await page.route("**/api/v1/login", async (route) => {
    asked.push(route.request().postDataJSON());
    await route.fulfill({ json: { data: { token: ADMIN } } });
  });
  await dashboard.go("#login=stl_once", "Overview");
  assert.deepEqual(asked, [{ secret: "stl_once" }]);
  assert.ok(!page.url().includes("stl_once"));
  await dashboard.button("Log out").click();
  await page.unroute("**/api/v1/login");
  await dashboard.go("#login=stl_once");
  await page.locator(".problem", { hasText: /log in with a token/ }).waitFor();
  dashboard.calm(REFUSED);
});

test("a token is made with the scopes that were chosen, shown once, and revoked", async (t) => {
  const map = await server.map("tokens");
  const dashboard = await open(t, { token: map.token, at: "#/tokens" });
  const { page } = dashboard;
  await dashboard.button("New token").click();
  await page.getByLabel("Name (optional)").fill("bot");
  await page.getByRole("checkbox", { name: /^publish/ }).check();
  await page.getByLabel("Expires (optional)").fill("2999-01-01T00:00");
  await dashboard.look("token-new");
  await dashboard.button("Create").click();
  const token = (await page.getByRole("region", { name: "Secret" }).textContent()).trim();
  await dashboard.button("Done").click();
  const { data } = await server.call("GET", "/api/v1/tokens/current", token);
  assert.deepEqual([data.name, data.scopes], ["bot", ["subscribe", "publish"]]);
  await dashboard.button("Revoke bot").click();
  await dashboard.button("Revoke").click();
  await dashboard.button("Revoke bot").waitFor({ state: "detached" });
  await assert.rejects(server.call("GET", "/api/v1/tokens/current", token), / 401 /);
  dashboard.calm();
});

test("a token of several channels is made, and its holder follows all of them or some by one connection", async (t) => {
  const maps = [];
  for (const name of ["wall-1", "wall-2", "wall-3"]) maps.push(await server.map(name));
  const admin = await open(t, { token: ADMIN, at: "#/tokens" });
  await admin.button("New token").click();
  await admin.page.getByLabel("Channel", { exact: true }).selectOption("several");
  for (const name of ["wall-1", "wall-2"]) await admin.page.getByRole("checkbox", { name, exact: true }).check();
  await admin.look("token-several");
  await admin.button("Create").click();
  const token = (await admin.page.getByRole("region", { name: "Secret" }).textContent()).trim();
  const { data } = await server.call("GET", "/api/v1/tokens/current", token);
  assert.deepEqual([data.channel, data.channels, data.scopes], [null, maps.slice(0, 2).map(({ id }) => `map:${id}`), ["subscribe"]]);
  admin.calm();

  const dashboard = await open(t, { token, at: "#/channels" });
  const { page } = dashboard;
  await page.getByRole("link", { name: "Events of all" }).click();
  await dashboard.live();
  const publish = async (n) => {
    for (const map of maps) await server.publish(map, { type: `${map.slug}-${n}` });
  };
  const seen = (type) => page.locator(".events", { hasText: type });
  await publish(1);
  await seen("wall-2-1").waitFor();
  await page.locator("summary", { hasText: "Channels" }).click();
  await page.getByRole("checkbox", { name: "wall-1", exact: true }).click();
  await dashboard.heading("Several channels");
  await dashboard.live();
  await publish(2);
  await seen("wall-1-2").waitFor();
  const shown = await page.locator(".events").textContent();
  assert.deepEqual(["wall-1-1", "wall-2-1", "wall-3-1", "wall-2-2", "wall-3-2"].filter((type) => shown.includes(type)), ["wall-1-1"]);
  const { data: connections } = await server.call("GET", "/api/v1/connections", ADMIN);
  assert.equal(connections.filter(({ token_id }) => token_id === data.id).length, 1);
  await dashboard.look("feed-several");
  dashboard.calm();
});

test("a token that may only read sees no more than that, and one that is revoked has to log in again", async (t) => {
  const map = await server.map("reader");
  const { data } = await server.call("POST", "/api/v1/tokens", map.token, { channel: `map:${map.id}`, scopes: ["subscribe"] });
  const dashboard = await open(t, { token: data.token, at: "#/map/reader" });
  const { page } = dashboard;
  await dashboard.live();
  assert.deepEqual(await page.locator(".nav a").allInnerTexts(), ["Overview", "Channels"]);
  assert.deepEqual(await page.locator(".tabs a").allInnerTexts(), ["Live events", "Figures"]);
  await dashboard.go("#/tokens");
  await page.getByRole("heading", { name: "There is nothing here" }).waitFor();
  await fetch(`${server.url}/api/v1/tokens/${data.id}`, { method: "DELETE", headers: { Authorization: `Bearer ${map.token}` } });
  await dashboard.go("#/channels");
  await page.locator(".problem", { hasText: "not valid any more" }).waitFor();
  dashboard.calm(REFUSED);
});
