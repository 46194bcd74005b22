// Drives the TypeScript client as the conformance suite says: one JSON object on standard input, one JSON object a line back.
import { text } from "node:stream/consumers";
import { setTimeout as sleep } from "node:timers/promises";

import { WebSocket } from "ws";

import { InvalidSignature, Stentor, StentorError, verifyWebhook } from "../../../clients/typescript/dist/index.js";
import { fileCursor } from "../../../clients/typescript/dist/node.js";

const say = (what) => console.log(JSON.stringify(what));
const task = JSON.parse(await text(process.stdin));
const stentor = task.token && new Stentor({ server: task.server, token: task.token });

const shown = ({ id, type, event, payload, ts, timestamp }) => {
  const at = ts ?? timestamp;
  return { id, type: type ?? event, n: payload.n, at: (typeof at === "string" ? Date.parse(at) : at) / 1000 };
};

const tasks = {
  async follow() {
    let count = 0;
    const { channel, after, events, cursor, transport } = task;
    const options = {
      transport,
      WebSocket,
      events,
      lastEventId: after,
      cursor: cursor && fileCursor(cursor),
      onGap: ({ reason, oldest }) => say({ gap: { reason, oldest } }),
      onError: ({ status, code }, wait_ms) => say({ error: { status: status ?? null, code, wait_ms } }),
    };
    for await (const { detail } of stentor.follow(channel, options)) {
      say({ event: shown(detail) });
      if (task.slow_ms) await sleep(task.slow_ms);
      count += 1;
      if (count === task.count) return;
    }
  },

  async publish() {
    for (let n = task.from; n < task.to; n += 1) say({ id: await stentor.publish(task.channel, "add_system", { n }) });
    say({ ids: await stentor.publishBatch(task.channel, [-1, -2].map((n) => ({ type: "map_kill", payload: { n } }))) });
  },

  async manage() {
    const made = await stentor.createMap("Managed", "managed");
    const organization = await stentor.createOrganization("Managed", "managed");
    for (const [channel, session] of [[`map:${made.slug}`], ["organization:managed", "s1"]]) {
      const token = await stentor.createToken(channel, ["subscribe", "publish"]);
      const named = (await stentor.renameToken(token.id, "renamed")).name;
      const own = new Stentor({ server: task.server, token: () => token.token });
      await own.publish(channel, "add_system", { n: 1 }, { session });
      const { value: first } = await own.history(channel).next();
      const webhook = await stentor.createWebhook(channel, task.url, { events: ["add_system"] });
      const changed = await stentor.updateWebhook(channel, webhook.id, { active: false });
      const listed = (await stentor.webhooks(channel)).map(({ id }) => id);
      await stentor.deleteWebhook(channel, webhook.id);
      const source = await stentor.createSource(channel, "api_key", { name: "game" });
      const sources = (await stentor.sources(channel)).map(({ id }) => id);
      await stentor.deleteSource(source.endpoint.id);
      await stentor.revokeToken(token.id);
      say({
        event: shown(first),
        active: changed.active,
        named,
        webhook: listed.join() === webhook.id && (await stentor.webhooks(channel)).length === 0,
        source: sources.join() === source.endpoint.id && Boolean(source.secret),
        token: !(await stentor.tokens()).some(({ id }) => id === token.id),
      });
    }
    await stentor.toggleWebhooks(made.id, true);
    say({ on: (await stentor.maps()).filter(({ id }) => id === made.id).map((map) => map.webhooks_enabled) });
    await stentor.deleteMap(made.id);
    await stentor.deleteOrganization(organization.id);
    await stentor.request("PATCH", "/api/maps/managed", { body: { name: "x" } }).catch(({ status, code }) => say({ refused: { status, code } }));
  },

  async verify() {
    const valid = async ({ body, headers, secret, format, now }) => {
      try {
        await verifyWebhook({ body: new Uint8Array(Buffer.from(body, "base64")), headers, secret, format, nowS: now });
        return true;
      } catch (error) {
        if (error instanceof InvalidSignature) return false;
        throw error;
      }
    };
    say({ valid: await Promise.all(task.cases.map(valid)) });
  },
};

try {
  await tasks[task.do]();
} catch (error) {
  if (!(error instanceof StentorError)) throw error;
  say({ fatal: { status: error.status ?? null, code: error.code, passing: !error.final } });
}
