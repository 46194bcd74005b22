// A browser with the dashboard: pages that note complaints, that axe looks at, and of which pictures are kept in shots/.
import assert from "node:assert/strict";
import { mkdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";

const CHROMIUM = process.env.CHROMIUM ?? "/usr/bin/chromium";
const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const shots = fileURLToPath(new URL("shots/", import.meta.url));

export const launch = () => chromium.launch({
  executablePath: CHROMIUM,
  args: [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
  ],
});

export const PHONE = { viewport: { width: 390, height: 844 }, isMobile: true, hasTouch: true };
export const DARK = { colorScheme: "dark" };

/** A dashboard in a browser context of its own, logged in when there is a token. */
export class Dashboard {
  static async open(t, browser, server, { token, at = "", ...options } = {}) {
    const context = await browser.newContext({ viewport: { width: 1280, height: 860 }, reducedMotion: "reduce", permissions: ["clipboard-read", "clipboard-write"], ...options });
    context.setDefaultTimeout(15_000);
    t.after(() => context.close());
    const page = await context.newPage();
    const dashboard = new Dashboard(page, server);
    if (token) await page.addInitScript((text) => sessionStorage.setItem("stentor.token", text), token);
    await page.goto(`${server.url}/${at}`);
    return dashboard;
  }

  constructor(page, server) {
    this.page = page;
    this.server = server;
    this.complaints = [];
    this.addresses = [];
    page.on("console", (message) => ["error", "warning"].includes(message.type()) && this.complaints.push(message.text()));
    page.on("pageerror", (error) => this.complaints.push(String(error)));
    page.on("request", (request) => this.addresses.push(request.url()));
  }

  /** Goes to a view, as a link would. */
  async go(at, heading) {
    await this.page.evaluate((hash) => (location.hash = hash), at);
    if (heading) await this.heading(heading);
  }

  heading(name) {
    return this.page.getByRole("heading", { level: 1, name }).waitFor();
  }

  live() {
    return this.page.locator(".state[data-state=open]").first().waitFor();
  }

  button(name, options = {}) {
    return this.page.getByRole("button", { name, exact: true, ...options });
  }

  /** What axe finds wrong: labels, contrast, roles. */
  async faults() {
    await this.page.evaluate(axe);
    const violations = await this.page.evaluate(async () => (await window.axe.run(document, { resultTypes: ["violations"] })).violations);
    return violations.map(({ id, nodes }) => `${id}: ${nodes.slice(0, 3).map(({ html, failureSummary }) => `${html.slice(0, 200)} ${failureSummary.replaceAll(/\s+/g, " ").slice(0, 300)}`).join(" | ")}`);
  }

  /** Keeps a picture, and holds what is shown to its promises. */
  async look(name, { fullPage = false } = {}) {
    mkdirSync(shots, { recursive: true });
    await this.page.screenshot({ path: `${shots}${name}.png`, fullPage });
    assert.deepEqual(await this.faults(), [], name);
    // a page that is too wide makes a phone zoom out, so its own idea of the width says nothing
    const sideways = await this.page.evaluate((width) => document.documentElement.scrollWidth - width, this.page.viewportSize().width);
    assert.ok(sideways <= 0, `${name} is ${sideways} px too wide`);
  }

  /** Nothing was complained about; `but`: what had to be. */
  calm(but = /^$/) {
    assert.deepEqual(this.complaints.filter((complaint) => !but.test(complaint)), []);
  }
}

/** What the browser says itself when a request is refused or the server is away. */
export const REFUSED = /Failed to load resource/;
