// The server and the browser that the tests of one file share, and what several files make there.
import { after, before } from "node:test";
import { Stentor } from "../clients/stentor.mjs";
import { Dashboard, launch } from "./dashboard.mjs";

export let server;
export let browser;

/** Has both there when the first test of the file begins, and gone after the last one. */
export function serve(settings = {}) {
  before(async () => {
    server = await Stentor.start(["--dev"], settings);
    browser = await launch();
  });
  after(async () => {
    await browser?.close();
    await server?.stop();
  });
}

export const open = (t, options) => Dashboard.open(t, browser, server, options);

/** A webhook of a map whose webhooks are on. */
export async function webhookOf(map, spec) {
  await server.call("PUT", `/api/maps/${map.id}/webhooks/toggle`, map.token, { enabled: true });
  return (await server.call("POST", `/api/maps/${map.id}/webhooks`, map.token, spec)).data;
}

/** The same with one attempt, so that what fails is given up at once. */
export const impatientWebhookOf = (map, spec) => webhookOf(map, { retry_policy: { policy: "constant", delaySeconds: 1, attempts: 1 }, ...spec });
