// A page in a real browser that speaks HTTP/2 with the server by TLS.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { Stentor } from "../clients/stentor.mjs";
import { launch } from "./dashboard.mjs";

const RELOADS = 50;

// the certificate is the test's own; the browser is told so too
process.env.NODE_TLS_REJECT_UNAUTHORIZED = "0";

let folder;
let server;
let browser;
before(async () => {
  folder = mkdtempSync(join(tmpdir(), "stentor-http2-"));
  const [key, cert] = [join(folder, "key.pem"), join(folder, "cert.pem")];
  execFileSync("openssl", [
    "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
    "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", cert,
  ], { stdio: "ignore" });
  server = await Stentor.start([], { "server.tls.cert": cert, "server.tls.key": key });
  browser = await launch();
});
after(async () => {
  await browser?.close();
  await server?.stop();
  rmSync(folder, { recursive: true, force: true });
});

test("a page with an EventSource is reloaded fifty times and never refused", async (t) => {
  const map = await server.map("reloads");
  const context = await browser.newContext({ ignoreHTTPSErrors: true });
  t.after(() => context.close());
  context.setDefaultTimeout(15_000);
  const page = await context.newPage();
  const statuses = [];
  page.on("response", (answer) => answer.url().includes("/events/stream") && statuses.push(answer.status()));
  const stream = `/api/maps/${map.id}/events/stream?token=${map.token}`;
  // a page of the server's own origin, so that its stream shares the connection with everything else
  await page.route("**/reloaded", (route) => route.fulfill({
    contentType: "text/html",
    body: `<!doctype html><script>
      const source = new EventSource(${JSON.stringify(stream)});
      source.onopen = () => { window.opened = true };
      // its entry is there when the whole answer is
      fetch("/health/live").then((answer) => answer.text()).then(async () => {
        const entry = () => performance.getEntriesByType("resource").find(({ name }) => name.endsWith("/health/live"));
        while (!entry()) await new Promise((resolve) => setTimeout(resolve, 5));
        window.protocol = entry().nextHopProtocol;
      });
    </script>`,
  }));
  await page.goto(`${server.url}/reloaded`);
  for (let n = 0; n < RELOADS; n++) {
    await page.waitForFunction(() => window.opened && window.protocol);
    assert.equal(await page.evaluate(() => window.protocol), "h2");
    await page.reload();
  }
  await page.waitForFunction(() => window.opened);
  assert.deepEqual(statuses, Array(RELOADS + 1).fill(200));
});
