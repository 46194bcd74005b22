// The overview of a server that is one node of several, over real nodes and a real NATS server.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { ADMIN, Stentor, freePort, until } from "../clients/stentor.mjs";
import { Dashboard, PHONE, launch } from "./dashboard.mjs";

const NATS = process.env.STENTOR_NATS_SERVER ?? fileURLToPath(new URL("../cluster/.venv/bin/nats-server", import.meta.url));
// what CI cannot check is a failure
const skip = existsSync(NATS) || process.env.CI === "true" ? false : `NOT CHECKED: there is no ${NATS}; scripts/setup installs it`;
const SECRET_KEY = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=";

let folder;
let nats;
let nodes = [];
let browser;
before(async () => {
  if (skip) return;
  folder = mkdtempSync(join(tmpdir(), "stentor-nats-"));
  const port = await freePort();
  nats = spawn(NATS, ["-a", "127.0.0.1", "-p", String(port), "-js", "-sd", folder], { stdio: "ignore", env: { ...process.env, GOMEMLIMIT: "100MiB" } });
  process.env.STENTOR_SECRET_KEY = SECRET_KEY;
  const settings = (node) => ({ engine: "nats", "nats.servers": `nats://127.0.0.1:${port}`, "nats.replicas": "1", "cluster.node": node });
  nodes = await Promise.all(["a", "b"].map((node) => Stentor.start([], settings(node))));
  delete process.env.STENTOR_SECRET_KEY;
  browser = await launch();
});
after(async () => {
  await browser?.close();
  await Promise.all(nodes.map((node) => node.stop()));
  nats?.kill("SIGKILL");
  if (folder) rmSync(folder, { recursive: true, force: true });
});

test("the overview says who is in the cluster, who writes and delivers, and names a node that is not heard", { skip }, async (t) => {
  const [a, b] = nodes;
  await a.organization("acme");
  const report = async () => (await a.call("GET", "/api/v1/cluster", ADMIN)).data;
  await until("all slots have an owner", async () => {
    const { nodes: known, slots_unowned: unowned, streams } = await report();
    return !unowned && streams.length === 2 && known.length === 2 && known.every((node) => node.slots_owned > 0);
  });
  const { writer, nodes: known } = await report();
  const dashboard = await Dashboard.open(t, browser, a, { token: ADMIN });
  const { page } = dashboard;
  const card = page.getByRole("region", { name: "Cluster" });
  const row = (name) => card.locator(".node-row").filter({ has: page.getByText(name, { exact: true }) });
  for (const { name, version, slots, slots_owned: owned } of known) {
    await row(name).filter({ hasText: version }).filter({ hasText: `delivers for ${owned} slots` }).filter({ hasText: slots }).waitFor();
    await row(name).filter({ hasText: "up to date" }).waitFor();
  }
  await row("a").locator(".badge", { hasText: "this node" }).waitFor();
  await row(writer).locator(".badge", { hasText: "writes" }).waitFor();
  await row("b").filter({ hasText: `127.0.0.1:${b.port}` }).filter({ hasText: /heard \d+ ms ago/ }).waitFor();
  await card.locator("dd", { hasText: `${writer}, term` }).waitFor();
  assert.equal(await card.locator("dd", { hasText: "whole on 1 of 1" }).count(), 2);
  await card.locator("dd", { hasText: /: 2\.\d+\.\d+/ }).waitFor();
  await page.getByText("Nothing needs attention.").waitFor();
  await dashboard.look("overview-cluster", { fullPage: true });

  b.child.kill("SIGKILL");
  await b.ended;
  await until("the node is missed", async () => (await report()).troubles.length > 0);
  await row("b").locator(".badge", { hasText: "not heard" }).waitFor();
  await dashboard.go("#/channels", "Channels");
  await dashboard.go("#/overview", "Overview");
  await page.locator(".trouble-row", { hasText: "A node is not heard" }).filter({ hasText: "the other nodes stand in for b (heard last" }).waitFor();
  await dashboard.look("overview-cluster-lost", { fullPage: true });
  dashboard.calm();
});

test("on a phone the nodes are readable as well", { skip }, async (t) => {
  const dashboard = await Dashboard.open(t, browser, nodes[0], { token: ADMIN, ...PHONE });
  await dashboard.page.getByRole("region", { name: "Cluster" }).locator(".node-row").first().waitFor();
  await dashboard.look("overview-cluster-phone", { fullPage: true });
  dashboard.calm();
});

test("a server alone shows nothing of a cluster", async (t) => {
  const alone = await Stentor.start(["--dev"]);
  t.after(() => alone.stop());
  browser ??= await launch();
  const dashboard = await Dashboard.open(t, browser, alone, { token: ADMIN });
  await dashboard.page.locator(".badge", { hasText: "Ready" }).waitFor();
  assert.equal(await dashboard.page.getByRole("region", { name: "Cluster" }).count(), 0);
  assert.ok(!dashboard.addresses.some((address) => address.includes("/api/v1/cluster")), "and asks for nothing");
  dashboard.calm();
});
