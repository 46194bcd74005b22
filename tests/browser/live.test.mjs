// Live events in the dashboard: filters, pauses, the past, restarts, tabs in the background, notices of the server and traces.
import assert from "node:assert/strict";
import { test } from "node:test";
import { ADMIN, Publisher, Stentor, until } from "../clients/stentor.mjs";
import { Dashboard, REFUSED } from "./dashboard.mjs";
import { receiver } from "./receiver.mjs";
import { browser, open, serve, server } from "./shared.mjs";

serve();

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
