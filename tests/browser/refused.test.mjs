// Senders that a source does not believe, and figures of what is past: what a person sees of them, and what helps.
import assert from "node:assert/strict";
import { createHmac } from "node:crypto";
import { test } from "node:test";
import { until } from "../clients/stentor.mjs";
import { DARK, PHONE, REFUSED } from "./dashboard.mjs";
import { receiver } from "./receiver.mjs";
import { open, serve, server } from "./shared.mjs";

serve();
const LOOKS = [["light", {}], ["dark", DARK], ["phone", PHONE]];

/** Sends as GitHub does; without a key unsigned. */
async function send(endpoint, key, agent = "GitHub-Hookshot/044aadd") {
  const body = '{"ref":"refs/heads/main"}';
  const signed = key ? { "X-Hub-Signature-256": `sha256=${createHmac("sha256", key).update(body).digest("hex")}` } : {};
  const answer = await fetch(endpoint.url, { method: "POST", body, headers: { "Content-Type": "application/json", "User-Agent": agent, "X-GitHub-Event": "push", "X-GitHub-Delivery": crypto.randomUUID(), ...signed } });
  return answer.status;
}

const sourceOf = (map, name) => server.call("POST", "/api/webhooks", map.token, { name, channel: `map:${map.id}`, authentication: "github" });

test("a source tells that a sender has a wrong secret, why, and is mended from there by the keyboard alone", async (t) => {
  const map = await server.map("distrusting");
  const { endpoint } = await sourceOf(map, "Our GitHub");
  const dashboard = await open(t, { token: map.token, at: `#/source/${endpoint.id}` });
  const { page } = dashboard;
  await page.getByText("Nothing has come in yet").waitFor();
  assert.equal(await send(endpoint, "the secret of another source"), 401);
  // sooner than the page asks anew by itself once something has come
  const told = page.getByRole("status").filter({ hasText: "The latest request was refused" });
  await told.filter({ hasText: "the signature does not match" }).filter({ hasText: "GitHub-Hookshot/044aadd" }).waitFor({ timeout: 8000 });
  await dashboard.look("refused-one");
  await dashboard.go(`#/source/${endpoint.id}/refused`);
  await page.getByRole("heading", { name: "No dead letters" }).waitFor();
  await page.getByText("1 request whose sender could not be verified was counted and not kept.").waitFor();
  for (const agent of [undefined, "<img src=x onerror=alert(1)>", "x".repeat(500)]) assert.equal(await send(endpoint, "wrong", agent), 401);
  for (const [kind, options] of LOOKS) {
    const look = await open(t, { token: map.token, at: "#/overview", ...options });
    await look.page.getByRole("link", { name: "The source Our GitHub believes none of its senders" }).waitFor();
    await look.page.locator(".trouble-row", { hasText: "4 requests in a row were refused: the signature does not match" }).waitFor();
    await look.go("#/sources", "Sources");
    await look.page.locator(".hook-row", { hasText: "Refuses senders" }).filter({ hasText: "0 events, 4 refused since" }).waitFor();
    await look.look(`refused-list-${kind}`);
    await look.page.getByRole("link", { name: "Our GitHub" }).click();
    await look.page.getByText("The latest 4 requests were refused").waitFor();
    await look.look(`refused-many-${kind}`, { fullPage: true });
    look.calm(REFUSED);
  }

  await dashboard.go(`#/source/${endpoint.id}`);
  await dashboard.button("Change the key").focus();
  await page.keyboard.press("Enter");
  await page.getByLabel("New key (optional)").fill("what the sender has");
  await page.keyboard.press("Enter");
  await page.getByText("The old one is not taken any more.").waitFor();
  await page.keyboard.press("Escape");
  // who changed the key is not told again of what was before, but can look it up
  await told.or(page.getByText("The latest 4 requests were refused")).waitFor({ state: "detached" });
  await page.locator(".source-facts", { hasText: "4 requests, the last one" }).waitFor();
  assert.equal(await send(endpoint, "what the sender has"), 200);
  await page.locator(".event", { hasText: "push" }).waitFor();
  await page.locator(".source-facts", { hasText: "1 event," }).waitFor();
  await dashboard.look("refused-mended", { fullPage: true });
  dashboard.calm(REFUSED);
});

test("of many sources those that refuse come first, and each is found by a word", async (t) => {
  const map = await server.map("crowded");
  const made = [];
  for (let n = 0; n < 10; n += 1) made.push((await sourceOf(map, n === 7 ? `The \u202eturned ${"long".repeat(40)}` : `Source ${n}`)).endpoint);
  assert.equal(await send(made[7], undefined), 401);
  for (const [kind, options] of LOOKS) {
    const dashboard = await open(t, { token: map.token, at: "#/sources", ...options });
    const { page } = dashboard;
    const rows = page.locator(".hook-row");
    await rows.first().filter({ hasText: "Refuses senders" }).filter({ hasText: "turned" }).waitFor();
    await dashboard.look(`sources-many-${kind}`, { fullPage: true });
    await page.getByLabel("Search").focus();
    await page.keyboard.type("github source 3");
    await until("one is left", async () => (await rows.count()) === 1);
    await page.getByText("1 source of 10").waitFor();
    await page.getByLabel("Search").fill(made[5].url);
    await rows.filter({ hasText: "Source 5" }).waitFor();
    await until("one is left", async () => (await rows.count()) === 1);
    await page.getByLabel("Search").fill("nothing of the kind");
    await page.getByRole("heading", { name: "No source is like that" }).waitFor();
    await dashboard.look(`sources-none-${kind}`);
    dashboard.calm(REFUSED);
  }
});

test("the overview shows nothing in red of what was sent again, and the bars of a channel are all its events", async (t) => {
  const map = await server.map("past");
  const receives = await receiver(t, 500);
  await server.call("PUT", `/api/maps/${map.id}/webhooks/toggle`, map.token, { enabled: true });
  const hook = (await server.call("POST", `/api/maps/${map.id}/webhooks`, map.token, { url: receives.url, retry_policy: { policy: "constant", delaySeconds: 1, attempts: 1 } })).data;
  await server.publish(map, [{ type: "order.paid", payload: {} }, { type: "order.paid", payload: {} }]);
  const dashboard = await open(t, { token: map.token });
  const { page } = dashboard;
  const tile = page.locator(".tile", { hasText: "Waiting for a retry" });
  await page.locator(".tile.bad", { hasText: "2 given up" }).waitFor({ timeout: 30_000 });
  receives.status = 200;
  await server.call("POST", `/api/maps/${map.id}/webhooks/${hook.id}/replay`, map.token, { status: "dead" });
  await tile.filter({ hasText: "2 given up in the last hour, none left to send" }).waitFor({ timeout: 30_000 });
  assert.doesNotMatch(await tile.getAttribute("class"), /\bbad\b/);

  // a day is not made of whole quarters of an hour: the first bar is a part of one
  const { buckets } = (await server.call("GET", `/api/maps/${map.id}/stats?window=24h&bucket=15m`, map.token)).data;
  await dashboard.go("#/map/past", "past");
  await page.locator(".histogram .bar").first().waitFor();
  assert.equal(await page.locator(".histogram .bar").count(), buckets.length);
  dashboard.calm(REFUSED);
});

test("of many streams one is found by its client, its channel or its token, and ended", async (t) => {
  const map = await server.map("followed");
  const { data: token } = await server.call("POST", "/api/v1/tokens", map.token, { scopes: ["subscribe"], name: "the wall of Zoë" });
  const stop = new AbortController();
  t.after(() => stop.abort());
  const follow = async (bearer, agent) => (await fetch(map.stream, { headers: { Authorization: `Bearer ${bearer}`, "User-Agent": agent }, signal: stop.signal })).body.pipeTo(new WritableStream()).catch(() => {});
  for (let n = 0; n < 9; n += 1) void follow(map.token, `bot-${n}/1`);
  void follow(token.token, "wall/2");
  for (const [kind, options] of LOOKS) {
    const dashboard = await open(t, { token: map.token, at: "#/map/followed/connections", ...options });
    const { page } = dashboard;
    const rows = page.locator(".connection-row");
    await rows.filter({ hasText: "wall/2" }).waitFor();
    await page.getByLabel("Search").focus();
    await page.keyboard.type("zoë followed");
    await until("one is left", async () => (await rows.count()) === 1);
    await rows.filter({ hasText: "wall/2" }).waitFor();
    await page.getByText("1 stream of 10").waitFor();
    await dashboard.look(`streams-found-${kind}`);
    await page.getByLabel("Search").fill("nothing of the kind");
    await page.getByRole("heading", { name: "No stream is like that" }).waitFor();
    await dashboard.look(`streams-none-${kind}`);
    if (kind === "phone") {
      await page.getByLabel("Search").fill("bot-3");
      await dashboard.button("End the stream of bot-3/1").click();
      await dashboard.button("End it").click();
      await page.getByText("The stream is ended").waitFor();
      await page.getByRole("heading", { name: "No stream is like that" }).waitFor();
    }
    dashboard.calm(REFUSED);
  }
});
