// The dashboard in a real browser against the real server: each view's main path, and what happens when the server is away.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { createHmac } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { ADMIN, Publisher, Stentor, until } from "../clients/stentor.mjs";
import { DARK, Dashboard, PHONE, REFUSED, launch } from "./dashboard.mjs";
import { receiver } from "./receiver.mjs";

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

const open = (t, options) => Dashboard.open(t, browser, server, options);

const webhookOf = async (map, spec) => {
  await server.call("PUT", `/api/maps/${map.id}/webhooks/toggle`, map.token, { enabled: true });
  return (await server.call("POST", `/api/maps/${map.id}/webhooks`, map.token, spec)).data;
};

// ---- logging in ------------------------------------------------------------------------------------------------

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

// ---- live events -----------------------------------------------------------------------------------------------

test("an expression filters live events and the past alike, and a bad one is explained where it stands", async (t) => {
  const map = await server.map("cel");
  await server.publish(map, [1, 20, 3].map((value) => ({ type: "map_kill", payload: { value } })));
  const dashboard = await open(t, { token: map.token, at: "#/map/cel" });
  const { page } = dashboard;
  await page.locator(".event").nth(2).waitFor();
  await page.getByLabel("Filter expression").fill("event.payload.value >");
  await dashboard.button("Find").click();
  await page.getByRole("alert").filter({ hasText: /filter/i }).waitFor();
  await dashboard.look("live-bad-filter");
  await page.getByLabel("Filter expression").fill("event.payload.value > 10");
  await page.keyboard.press("Enter");
  const ids = () => page.locator(".event").count();
  await until("the past is filtered", async () => (await ids()) === 1);
  await dashboard.live();
  await server.publish(map, [2, 50].map((value) => ({ type: "map_kill", payload: { value } })));
  await until("what comes is filtered", async () => (await ids()) === 2);
  assert.match(page.url(), /filter=event\.payload\.value/);
  await page.getByLabel("Filter expression").fill("event.payload.value > 1000");
  await page.keyboard.press("Enter");
  await page.getByRole("heading", { name: "Nothing passes the filter yet" }).waitFor();
  dashboard.calm(REFUSED);
});

test("a paused list holds new events back and counts them, and an open event is not pushed away", async (t) => {
  const map = await server.map("pause");
  await server.publish(map, { type: "add_system", payload: { n: 0 } });
  const dashboard = await open(t, { token: map.token, at: "#/map/pause" });
  const { page } = dashboard;
  await dashboard.live();
  await page.locator(".event").waitFor();
  await dashboard.button("Pause").click();
  await server.publish(map, [1, 2, 3].map((n) => ({ type: "add_system", payload: { n } })));
  await dashboard.button("3 new events").waitFor();
  assert.equal(await page.locator(".event").count(), 1);
  await dashboard.look("live-paused");
  await dashboard.button("3 new events").click();
  await until("they are shown", async () => (await page.locator(".event").count()) === 4);

  await page.locator(".event summary").first().click();
  await server.publish(map, { type: "add_system", payload: { n: 4 } });
  await dashboard.button("1 new event").waitFor();
  assert.equal(await page.locator(".event").count(), 4);
  dashboard.calm();
});

test("scrolling down goes back to the first event, page by page", async (t) => {
  const map = await server.map("past");
  const all = await server.publish(map, Array.from({ length: 180 }, (_, n) => ({ type: "add_system", payload: { n } })));
  const dashboard = await open(t, { token: map.token, at: "#/map/past" });
  const { page } = dashboard;
  await page.locator(".event").nth(49).waitFor();
  assert.equal(await page.locator(".event").count(), 50);
  await until("the beginning is reached", async () => {
    await page.mouse.wheel(0, 4000);
    return page.getByText("That is where the log begins.").isVisible();
  });
  const shown = await page.locator(".event").evaluateAll((rows) => rows.map((row) => row.dataset.id));
  assert.deepEqual(shown, all.reverse());
  dashboard.calm();
});

test("a live list comes back after a restart of the server with every event once", async (t) => {
  const own = await Stentor.start();
  t.after(() => own.stop());
  const map = await own.map("back");
  const dashboard = await Dashboard.open(t, browser, own, { token: map.token, at: "#/map/back" });
  const { page } = dashboard;
  await dashboard.live();
  const publisher = new Publisher(own, map);
  for (const signal of ["SIGKILL", "SIGTERM"]) {
    await publisher.more(20);
    await own.restart(signal);
  }
  await publisher.more(20);
  await publisher.stop();
  const newest = (await own.history(map)).map((text) => JSON.parse(text).id).reverse().slice(0, 300);
  const rows = () => page.locator(".event").evaluateAll((items) => items.map((item) => item.dataset.id));
  await until("the newest is shown", async () => (await rows())[0] === newest[0]);
  const shown = await rows();
  assert.deepEqual(shown, newest.slice(0, shown.length));
  assert.ok(shown.length >= Math.min(60, newest.length), `${shown.length} of ${newest.length}`);
  await dashboard.live();
  dashboard.calm(REFUSED);
});

test("a tab in the background gives its connections back, and has everything when it is looked at again", async (t) => {
  const own = await Stentor.start();
  t.after(() => own.stop());
  const map = await own.map("hidden");
  const streams = async () => Number(/stentor_streams (\d+)/.exec(await (await fetch(`${own.url}/metrics`)).text())[1]);
  const dashboard = await Dashboard.open(t, browser, own, { token: ADMIN });
  const { page } = dashboard;
  await page.clock.install();
  await dashboard.go("#/map/hidden");
  await dashboard.live();
  await until("two streams are open", async () => (await streams()) === 2);
  const show = (hidden) => page.evaluate((value) => {
    Object.defineProperty(document, "hidden", { value, configurable: true });
    document.dispatchEvent(new Event("visibilitychange"));
  }, hidden);
  await show(true);
  await page.clock.fastForward(31_000);
  await until("no stream is open", async () => (await streams()) === 0);
  const ids = await own.publish(map, [1, 2, 3].map((n) => ({ type: "add_system", payload: { n } })));
  await show(false);
  await page.clock.resume();
  await until("all are shown", async () => (await page.locator(".event").count()) === 3);
  assert.deepEqual(await page.locator(".event").evaluateAll((rows) => rows.map((row) => row.dataset.id)), ids.reverse());
  dashboard.calm();
});

test("a server that is away is said so, and the figures go on when it is back", async (t) => {
  const own = await Stentor.start();
  t.after(() => own.stop());
  const dashboard = await Dashboard.open(t, browser, own, { token: ADMIN, at: "#/overview" });
  const { page } = dashboard;
  await page.locator(".plot canvas").first().waitFor();
  own.child.kill("SIGKILL");
  await own.ended;
  await page.getByRole("alert").filter({ hasText: "cannot be reached" }).first().waitFor();
  await dashboard.look("overview-server-away");
  await own.restart("SIGKILL");
  await page.getByRole("alert").first().waitFor({ state: "detached" });
  dashboard.calm(REFUSED);
});

// ---- channels --------------------------------------------------------------------------------------------------

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

// ---- webhooks --------------------------------------------------------------------------------------------------

test("a webhook is made with a preview, tested, fails, says why, and is sent again by hand", async (t) => {
  const map = await server.map("hooks");
  const receives = await receiver(t);
  const dashboard = await open(t, { token: map.token, at: "#/webhooks" });
  const { page } = dashboard;
  await page.getByRole("heading", { name: "No webhooks yet" }).waitFor();
  await dashboard.look("webhooks-empty");
  await dashboard.button("New webhook").click();
  await page.getByLabel("Format").selectOption("discord");
  await page.getByRole("region", { name: "Body of a sample" }).filter({ hasText: "embeds" }).waitFor();
  await dashboard.look("webhook-new");
  await page.getByLabel("Format").selectOption("template");
  await page.getByLabel("Template").fill("{{ event.type");
  await page.locator(".preview .trouble").waitFor();
  await page.getByLabel("Format").selectOption("map");
  await page.getByLabel("Address").fill("https://localhost.invalid");
  await page.getByRole("checkbox", { name: "All types" }).uncheck();
  await page.getByLabel("Only these types").fill("no type!");
  await page.getByLabel("Address").fill(receives.url);
  await dashboard.button("Create").click();
  await page.locator(".problem, .trouble").first().waitFor();
  await page.getByLabel("Only these types").fill("map_kill, add_system");
  await page.getByText("Order, batches, retries, headers").click();
  await page.getByLabel("Retries").selectOption("constant");
  await page.getByLabel("Attempts in all").fill("1");
  await dashboard.button("Create").click();
  assert.equal((await page.getByRole("region", { name: "Secret" }).textContent()).trim().length, 44);
  await dashboard.look("webhook-made");
  await page.getByRole("link", { name: "Open it and send a test" }).click();
  await dashboard.button("Switch on").click();
  await dashboard.button("Send a test").click();
  await page.getByRole("status").filter({ hasText: "The receiver answered 200" }).waitFor();
  await dashboard.look("webhook-test");
  await dashboard.button("Done").click();
  assert.equal(receives.requests.length, 1);

  receives.status = 500;
  await server.publish(map, { type: "map_kill", payload: { value: 1 } });
  const dead = page.locator(".delivery", { hasText: "given up" });
  await dead.waitFor();
  await dead.locator("summary").first().click();
  await page.getByText("the database is away").first().waitFor();
  await dashboard.look("webhook-dead", { fullPage: true });
  receives.status = 200;
  await dashboard.button("Send again now").click();
  await page.locator(".attempt", { hasText: "sent again by hand" }).waitFor();
  await page.locator(".delivery", { hasText: "given up" }).waitFor({ state: "detached" });

  await dashboard.button("Replay").click();
  await dashboard.button("Count").click();
  await page.getByText("1 event would be sent.").waitFor();
  await dashboard.look("webhook-replay");
  const before = receives.requests.length;
  await dashboard.button("Send 1 event").click();
  await page.getByRole("status").filter({ hasText: "1 delivered" }).waitFor();
  assert.equal(receives.requests.length, before + 1);
  await dashboard.button("Close", { exact: true }).last().click();

  await dashboard.button("Rotate secret").click();
  await dashboard.button("Rotate").click();
  await page.getByText("The old one signs too until").waitFor();
  await dashboard.button("Done").click();
  await dashboard.button("Pause").click();
  await page.locator(".badges .badge", { hasText: "Paused" }).waitFor();
  await dashboard.button("Go on").click();
  await page.locator(".badges .badge", { hasText: "Healthy" }).waitFor();
  await dashboard.button("Edit").click();
  await page.getByText("Order, batches, retries, headers").click();
  await page.getByRole("checkbox", { name: /One at a time/ }).check();
  await dashboard.button("Save").click();
  await page.locator(".badges .badge", { hasText: "in order" }).waitFor();
  await dashboard.button("Delete").click();
  await page.getByRole("dialog").getByRole("button", { name: "Delete" }).click();
  await page.getByRole("heading", { name: "No webhooks yet" }).waitFor();
  dashboard.calm(REFUSED);
});

test("a webhook that the server switched off says why, and is switched on again", async (t) => {
  const map = await server.map("gone");
  const receives = await receiver(t, 410);
  const hook = await webhookOf(map, { url: receives.url });
  await server.publish(map, { type: "map_kill", payload: {} });
  const dashboard = await open(t, { token: map.token, at: `#/webhook/map/${map.id}/${hook.id}` });
  const { page } = dashboard;
  await page.getByRole("alert").filter({ hasText: "410 Gone" }).waitFor();
  await dashboard.look("webhook-switched-off");
  await dashboard.go("#/webhooks", "Webhooks");
  await page.locator(".hook-row", { hasText: "Disabled" }).waitFor();
  await page.goBack();
  receives.status = 200;
  await dashboard.button("Switch on again").click();
  await page.locator(".delivery", { hasText: "delivered" }).first().waitFor();
  dashboard.calm();
});

test("a webhook of an organization is made with a secret of its owner, delivers, and shows its attempts like one of a map", async (t) => {
  const { data: organization } = await server.call("POST", "/api/v1/organizations", ADMIN, { id: "gateway", name: "Gateway" });
  const receives = await receiver(t, 503);
  const dashboard = await open(t, { token: organization.token, at: "#/webhooks" });
  const { page } = dashboard;
  await dashboard.button("New webhook").click();
  await page.getByRole("region", { name: "Body of a sample" }).filter({ hasText: '"schema": "v1"' }).waitFor();
  await page.getByLabel("Address").fill(receives.url);
  await page.getByLabel("Session (optional)").fill("s1");
  await page.getByRole("checkbox", { name: "All types" }).uncheck();
  await page.getByLabel("Only these types").fill("message");
  await page.getByText("Order, batches, retries, headers").click();
  await page.getByRole("checkbox", { name: /Several events/ }).check();
  await page.getByLabel("Wait for more").fill("0");
  await page.getByLabel("Retries").selectOption("constant");
  await page.getByLabel("Attempts in all").fill("1");
  await page.getByLabel("Filter expression").fill("event.type ==");
  await dashboard.button("Create").click();
  await page.locator("dialog .field", { hasText: "Filter expression" }).locator(".problem").waitFor();
  await page.getByLabel("Filter expression").fill("");
  await dashboard.button("Create").click();
  const secret = (await page.getByRole("region", { name: "Secret" }).textContent()).trim();
  await page.getByRole("link", { name: "Open it and send a test" }).click();
  await server.call("POST", "/api/v1/organizations/gateway/events", organization.token, [{ type: "message", session: "s2", payload: {} }, { type: "message", session: "s1", payload: { text: "hello" } }]);
  await page.locator(".delivery", { hasText: "given up" }).locator("summary").first().click();
  await page.getByText("the database is away").first().waitFor();
  await dashboard.look("webhook-organization", { fullPage: true });
  const [{ headers, body }] = receives.requests;
  assert.equal(headers["x-webhook-hmac"], createHmac("sha512", secret).update(body).digest("hex"));
  assert.match(body, /"text":"hello"/);
  receives.status = 200;
  await dashboard.button("Send again now").click();
  await page.locator(".attempt", { hasText: "sent again by hand" }).waitFor();
  await dashboard.button("Edit").click();
  await page.getByLabel("Session (optional)").fill("");
  await dashboard.button("Save").click();
  await page.locator(".facts dt", { hasText: "Session" }).waitFor({ state: "detached" });
  dashboard.calm(REFUSED);
});

// ---- sources ---------------------------------------------------------------------------------------------------

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

// ---- the server's own events, traces ---------------------------------------------------------------------------

test("an admin sees at once what the server says, and an event tells who got it", async (t) => {
  const own = await Stentor.start(["--dev"]);
  t.after(() => own.stop());
  const map = await own.map("noticed");
  const receives = await receiver(t, 410);
  const dashboard = await Dashboard.open(t, browser, own, { token: ADMIN, at: "#/map/noticed" });
  const { page } = dashboard;
  await dashboard.live();
  await own.call("PUT", `/api/maps/${map.id}/webhooks/toggle`, ADMIN, { enabled: true });
  await own.call("POST", `/api/maps/${map.id}/webhooks`, ADMIN, { url: receives.url });
  await own.publish(map, { type: "map_kill", payload: { value: 1 } });
  await page.locator(".nav .count").waitFor();
  await page.locator(".event summary").first().click();
  await page.getByText("Where it came from, who got it").click();
  await page.locator(".trace", { hasText: "first token" }).filter({ hasText: receives.url }).waitFor();
  await dashboard.look("trace");
  await page.getByRole("link", { name: /^System/ }).click();
  await page.locator(".event", { hasText: "was switched off: the receiver answered 410 Gone" }).waitFor();
  await page.locator(".nav .count").waitFor({ state: "detached" });
  await dashboard.look("system-notices");
  await dashboard.go("#/overview", "Overview");
  await page.locator(".notice-row", { hasText: "was switched off" }).waitFor();
  const trouble = page.locator(".trouble-row", { hasText: "was switched off" });
  await trouble.filter({ hasText: "410 Gone" }).waitFor();
  await dashboard.look("overview-notices", { fullPage: true });
  receives.status = 200;
  await trouble.getByRole("button", { name: "Switch on" }).click();
  await trouble.waitFor({ state: "detached" });
  dashboard.calm();
});

// ---- tokens ----------------------------------------------------------------------------------------------------

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

// ---- all views -------------------------------------------------------------------------------------------------

test("every view stands the test of axe and of a phone, in light and in dark, empty and full", async (t) => {
  const own = await Stentor.start(["--dev"]);
  t.after(() => own.stop());
  const empty = await own.map("nothing-yet");
  const map = await own.map("full");
  const types = (await (await fetch(`${own.url}/api/event-types?family=maps`)).json()).data;
  await own.publish(map, types.map(({ type, example }) => ({ type, payload: example })));
  const long = "a name that goes on and on, as names do that nobody has to type twice ".repeat(2).trim();
  await own.publish(map, { type: "x".repeat(64), payload: { [`key_${"y".repeat(200)}`]: "z".repeat(3000), list: Array.from({ length: 500 }, (_, n) => n), long } });
  await own.call("PATCH", `/api/maps/${map.id}`, ADMIN, { name: long.slice(0, 100) });
  const receives = await receiver(t, 500);
  await own.call("PUT", `/api/maps/${map.id}/webhooks/toggle`, ADMIN, { enabled: true });
  const hook = (await own.call("POST", `/api/maps/${map.id}/webhooks`, ADMIN, { url: `${receives.url}/${"path".repeat(40)}`, filter: 'event.type == "map_kill" || event.type == "rally_point_added"' })).data;
  await own.publish(map, { type: "map_kill", payload: { value: 1 } });
  const { endpoint: source } = await own.call("POST", "/api/webhooks", map.token, { name: long, authentication: "none" });
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
    const dashboard = await Dashboard.open(t, browser, own, { ...options, token: ADMIN });
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
