// Providers of webhooks with a library on npm: what the library signs, or judges as signed, is taken; changes of it are not; and what a
// source in raw mode sends on is judged by the library at the far end.
import assert from "node:assert/strict";
import crypto from "node:crypto";
import { spawn } from "node:child_process";
import { createServer } from "node:http";
import { after, before, test } from "node:test";
import { Signature as HubSpotSignature } from "@hubspot/api-client";
import { sign as githubSign, verify as githubVerify } from "@octokit/webhooks-methods";
import { EventWebhook } from "@sendgrid/eventwebhook";
import { LinearWebhookClient } from "@linear/sdk/webhooks";
import { Paddle } from "@paddle/paddle-node-sdk";
import "@shopify/shopify-api/adapters/node";
import { shopifyApi } from "@shopify/shopify-api";
import bolt from "@slack/bolt";
import { verifyKey } from "discord-interactions";
import { WebhooksHelper } from "square";
import { Webhook } from "standardwebhooks";
import Stripe from "stripe";
import twilio from "twilio";
import { CloudEvent, HTTP } from "cloudevents";
import { ADMIN, Stentor, until } from "./stentor.mjs";

let server;
before(async () => (server = await Stentor.start(["--dev"], { "limits.webhooks_per_map": "50" })));
after(() => server.stop());

const seconds = () => Math.floor(Date.now() / 1000);

/** Judges as at that moment: a library that allows five seconds would else judge how busy the machine is. */
function asOf(ms, judge) {
  const Real = Date;
  globalThis.Date = class extends Real {
    constructor(...given) {
      super(...(given.length > 0 ? given : [ms]));
    }
  };
  try {
    return judge();
  } finally {
    globalThis.Date = Real;
  }
}
const hmac = (key, text, encoding = "hex", hash = "sha256") => crypto.createHmac(hash, key).update(text).digest(encoding);
const json = { "content-type": "application/json" };

const discordKeys = crypto.generateKeyPairSync("ed25519");
const discordPublic = discordKeys.publicKey.export({ format: "der", type: "spki" }).subarray(-32).toString("hex");
const sendgridKeys = crypto.generateKeyPairSync("ec", { namedCurve: "P-256" });
const sendgridPublic = sendgridKeys.publicKey.export({ format: "der", type: "spki" }).toString("base64");
const standardSecret = `whsec_${crypto.randomBytes(32).toString("base64")}`;
const stripe = new Stripe("sk_test_x");
const shopify = shopifyApi({ apiKey: "key", apiSecretKey: "hush", apiVersion: "2025-10", isEmbeddedApp: false, hostName: "shop.example.org", logger: { log: () => {} } });

/** What each provider sends to `url`, and what its library says of what arrived. */
const providers = {
  github: {
    key: { secretKey: "It's a Secret to Everybody" },
    async send(_, n) {
      const body = JSON.stringify({ ref: "refs/heads/main", n });
      return { headers: { ...json, "x-github-event": "push", "x-github-delivery": `d-${n}`, "x-hub-signature-256": await githubSign(this.key.secretKey, body) }, body };
    },
    judge: ({ headers, body }, key) => githubVerify(key.secretKey, body.toString(), headers["x-hub-signature-256"]),
    type: "push",
  },
  stripe: {
    key: { secretKey: "whsec_test_secret" },
    send(_, n) {
      const body = JSON.stringify({ id: `evt_${n}`, object: "event", type: "charge.succeeded" });
      return { headers: { ...json, "stripe-signature": stripe.webhooks.generateTestHeaderString({ payload: body, secret: this.key.secretKey }) }, body };
    },
    judge: ({ headers, body }, key) => stripe.webhooks.constructEvent(body, headers["stripe-signature"], key.secretKey).type === "charge.succeeded",
    type: "charge.succeeded",
  },
  twilio: {
    key: { secretKey: "12345" },
    send(url, n) {
      const fields = { CallSid: `CA${n}`, Caller: "+14158675309", CallStatus: "ringing", Digits: "1234" };
      const body = new URLSearchParams(fields).toString();
      const signature = twilio.getExpectedTwilioSignature(this.key.secretKey, url, fields);
      return { headers: { "content-type": "application/x-www-form-urlencoded", "x-twilio-signature": signature }, body };
    },
    judge: ({ headers, body, sentTo }, key) => twilio.validateRequest(key.secretKey, headers["x-twilio-signature"], sentTo, Object.fromEntries(new URLSearchParams(body.toString()))),
    type: "ringing",
  },
  standard: {
    key: { secretKey: standardSecret },
    send(_, n) {
      const body = JSON.stringify({ type: "user.created", data: { n } });
      const at = new Date();
      const signature = new Webhook(standardSecret).sign(`msg_${n}`, at, body);
      return { headers: { ...json, "webhook-id": `msg_${n}`, "webhook-timestamp": String(Math.floor(at / 1000)), "webhook-signature": signature }, body };
    },
    judge: ({ headers, body }) => new Webhook(standardSecret).verify(body.toString(), headers).type === "user.created",
    type: "user.created",
  },
  discord: {
    key: { publicKey: discordPublic },
    send(_, n) {
      const body = JSON.stringify({ id: `${n}`, application_id: "1", type: 2, token: "t", data: { name: "deploy" }, version: 1 });
      const at = String(seconds());
      const signature = crypto.sign(null, Buffer.from(at + body), discordKeys.privateKey).toString("hex");
      return { headers: { ...json, "x-signature-ed25519": signature, "x-signature-timestamp": at }, body };
    },
    judge: ({ headers, body }) => verifyKey(body, headers["x-signature-ed25519"], headers["x-signature-timestamp"], discordPublic),
    type: "deploy",
  },
  sendgrid: {
    key: { publicKey: sendgridPublic },
    send(_, n) {
      const body = `${JSON.stringify([{ email: "a@b.org", event: "delivered", sg_event_id: `e-${n}` }])}\r\n`;
      const at = String(seconds());
      const signature = crypto.sign("sha256", Buffer.from(at + body), sendgridKeys.privateKey).toString("base64");
      return { headers: { ...json, "x-twilio-email-event-webhook-signature": signature, "x-twilio-email-event-webhook-timestamp": at }, body };
    },
    judge({ headers, body }) {
      const judge = new EventWebhook();
      const at = headers["x-twilio-email-event-webhook-timestamp"];
      return judge.verifySignature(judge.convertPublicKeyToECDSA(sendgridPublic), body, headers["x-twilio-email-event-webhook-signature"], at);
    },
    type: "delivered",
  },
  linear: {
    key: { secretKey: "lin_wh_secret" },
    send(_, n) {
      const body = JSON.stringify({ action: "create", type: "Issue", data: { id: `${n}` }, webhookTimestamp: Date.now() });
      return { headers: { ...json, "linear-event": "Issue", "linear-delivery": `d-${n}`, "linear-signature": hmac(this.key.secretKey, body) }, body };
    },
    judge: ({ headers, body }, key) => new LinearWebhookClient(key.secretKey).verify(body, headers["linear-signature"], JSON.parse(body).webhookTimestamp),
    type: "Issue",
  },
  paddle: {
    key: { secretKey: "pdl_ntfset_secret" },
    send(_, n) {
      const body = JSON.stringify({ event_id: `evt_${n}`, event_type: "address.created", occurred_at: "2024-01-15T10:30:00Z", notification_id: `ntf_${n}`, data: { id: "add_1", custom_data: null } });
      const at = seconds();
      return { headers: { ...json, "paddle-signature": `ts=${at};h1=${hmac(this.key.secretKey, `${at}:${body}`)}` }, body };
    },
    judge({ headers, body }, key) {
      const signature = headers["paddle-signature"];
      return asOf(parseInt(signature.slice("ts=".length), 10) * 1000, () => new Paddle("key").webhooks.isSignatureValid(body.toString(), key.secretKey, signature));
    },
    type: "address.created",
  },
  square: {
    key: { secretKey: "square-signature-key" },
    send(url, n) {
      const body = JSON.stringify({ merchant_id: "M", type: "payment.created", event_id: `ev-${n}`, data: { note: "caf\u00e9" } });
      return { headers: { ...json, "x-square-hmacsha256-signature": hmac(this.key.secretKey, url + body, "base64") }, body };
    },
    judge: ({ headers, body, sentTo }, key) => WebhooksHelper.verifySignature({ requestBody: body.toString(), signatureHeader: headers["x-square-hmacsha256-signature"], signatureKey: key.secretKey, notificationUrl: sentTo }),
    type: "payment.created",
  },
  hubspot: {
    key: { secretKey: "hubspot-client-secret" },
    send(url, n) {
      const body = JSON.stringify([{ eventId: n, subscriptionId: 1, objectId: 2, occurredAt: 3, subscriptionType: "contact.creation" }]);
      const at = Date.now();
      const signature = HubSpotSignature.getSignature("POST", "v3", { clientSecret: this.key.secretKey, url, requestBody: body, timestamp: at });
      return { headers: { ...json, "x-hubspot-signature-v3": signature, "x-hubspot-request-timestamp": String(at) }, body };
    },
    judge: ({ headers, body, sentTo, method }, key) => HubSpotSignature.isValid({
      method, signatureVersion: "v3", clientSecret: key.secretKey, url: sentTo, requestBody: body.toString(),
      signature: headers["x-hubspot-signature-v3"], timestamp: Number(headers["x-hubspot-request-timestamp"]),
    }),
    type: "contact.creation",
  },
  slack: {
    key: { secretKey: "8f742231b10e8888abcd99yyyzzz85a5" },
    send(_, n) {
      const body = JSON.stringify({ type: "event_callback", event_id: `Ev${n}`, event: { type: "app_mention" } });
      const at = seconds();
      return { headers: { ...json, "x-slack-request-timestamp": String(at), "x-slack-signature": `v0=${hmac(this.key.secretKey, `v0:${at}:${body}`)}` }, body };
    },
    judge: ({ headers, body }, key) => bolt.isValidSlackRequest({ signingSecret: key.secretKey, body: body.toString(), headers: { ...headers, "x-slack-request-timestamp": Number(headers["x-slack-request-timestamp"]) } }),
    type: "app_mention",
  },
  shopify: {
    key: { secretKey: "hush" },
    send(_, n) {
      const body = JSON.stringify({ id: n });
      const about = { "x-shopify-topic": "orders/create", "x-shopify-webhook-id": `w-${n}`, "x-shopify-api-version": "2025-10", "x-shopify-shop-domain": "shop.example.org" };
      return { headers: { ...json, ...about, "x-shopify-hmac-sha256": hmac("hush", body, "base64") }, body };
    },
    judge: async ({ headers, body }) => (await shopify.webhooks.validate({ rawBody: body.toString(), rawRequest: { headers, method: "POST", url: "/" }, rawResponse: {} })).valid,
    type: "orders_create",
  },
};

async function post(url, { headers, body }) {
  return fetch(url, { method: "POST", headers, body, signal: AbortSignal.timeout(10_000) });
}

async function source(map, name, more = {}) {
  const { endpoint } = await server.call("POST", "/api/webhooks", map.token, { authentication: name, ...providers[name].key, ...more });
  return endpoint.url;
}

/** Another letter or digit at a place of a text. */
function changed(text, at) {
  const places = [...text].map((c, n) => (/[a-zA-Z0-9]/.test(c) ? n : -1)).filter((n) => n >= 0);
  const n = places[Math.floor(at * places.length)];
  return text.slice(0, n) + (text[n] === "a" ? "b" : "a") + text.slice(n + 1);
}

/** A receiver that notes what arrives. */
async function receiver(arrived) {
  const far = createServer((request, response) => {
    const pieces = [];
    request.on("data", (piece) => pieces.push(piece));
    request.on("end", () => {
      arrived.push({ method: request.method, url: request.url, headers: request.headers, body: Buffer.concat(pieces) });
      response.end();
    });
  });
  await new Promise((resolve) => far.listen(0, "127.0.0.1", resolve));
  far.unref();
  return { at: (path) => `http://127.0.0.1:${far.address().port}/${path}` };
}

/** The library of the provider believes each of what arrived, which is what was sent. */
async function believed({ name, provider, sentTo }, arrived, sent) {
  assert.deepEqual(arrived.map(({ body }) => body.toString()), sent.map(({ body }) => body));
  for (const got of arrived) {
    assert.ok(await provider.judge({ ...got, sentTo }, provider.key), `${name}: ${JSON.stringify(got.headers)}`);
  }
}

/** The maps whose requests went on, for what comes after a restart. */
const followed = [];

for (const [name, provider] of Object.entries(providers)) {
  test(`${name}: what its library signs is taken once, and ten changes of it are refused`, async () => {
    const map = await server.map(`provider-${name}`);
    const url = await source(map, name);
    const request = await provider.send(url, 1);
    const first = await post(url, request);
    assert.equal(first.status, 200, await first.clone().text());
    assert.deepEqual(await (await post(url, request)).json(), await first.json(), "a repetition is known");
    const proofs = Object.keys(request.headers).filter((header) => /signature|hmac/.test(header) && header !== "webhook-id");
    const changes = [0, 0.3, 0.5, 0.7, 0.9].map((at) => ({ ...request, body: changed(request.body, at) }));
    for (const header of proofs) {
      const with_ = (value) => ({ ...request, headers: { ...request.headers, [header]: value } });
      changes.push(...[0.35, 0.6, 0.95].map((at) => with_(changed(request.headers[header], at))), with_(""), with_(`${request.headers[header]}0`));
    }
    assert.ok(changes.length >= 10);
    for (const change of changes) {
      const answer = await post(url, change);
      assert.equal(answer.status, 401, `${JSON.stringify(change)}: ${await answer.text()}`);
    }
    const events = (await server.history(map)).map((line) => JSON.parse(line));
    assert.deepEqual(events.map((event) => event.type), [provider.type]);
  });

  if (provider.judge) {
    test(`${name}: its library believes what a source in raw mode sends on, live and on replay`, async () => {
      const map = await server.map(`raw-${name}`);
      const arrived = [];
      const far = await receiver(arrived);
      const { data: webhook } = await server.call("POST", `/api/maps/${map.id}/webhooks`, map.token, { url: far.at("in"), format: "raw" });
      await server.call("PUT", `/api/maps/${map.id}/webhooks/toggle`, map.token, { enabled: true });
      const sentTo = await source(map, name, { mode: "raw" });
      const request = await provider.send(sentTo, 1);
      assert.equal((await post(sentTo, request)).status, 200);
      await until("it goes on", () => arrived.length === 1);
      // a replay passes over what is still on its way
      const deliveries = `/api/maps/${map.id}/webhooks/${webhook.id}/deliveries?status=delivered`;
      await until("its answer has come", async () => (await server.call("GET", deliveries, map.token)).data.length === 1);
      await server.call("POST", `/api/maps/${map.id}/webhooks/${webhook.id}/replay`, map.token, { after: "00000000000000000000000000" });
      await until("it goes on once more", () => arrived.length === 2);
      await believed({ name, provider, sentTo }, arrived, [request, request]);
      followed.push({ name, provider, map, sentTo, arrived, sent: [request] });
    });
  }
}

test("after a restart each library believes what goes on by webhook, and by listen", async () => {
  assert.ok(followed.length >= 12);
  await server.restart("SIGTERM");
  await Promise.all(followed.map(async (one) => {
    const request = await one.provider.send(one.sentTo, 2);
    assert.equal((await post(one.sentTo, request)).status, 200, one.name);
    one.sent.push(request);
    await until("it goes on", () => one.arrived.length === 3);
    await believed(one, one.arrived.slice(2), [request]);
  }));
  for (const { map, sent, ...one } of followed) {
    const arrived = [];
    const near = await receiver(arrived);
    const line = ["listen", `map:${map.id}`, "--forward-to", near.at("local"), "--server", server.url, "--token", map.token, "--since", "1h", "--limit", "2"];
    const listening = spawn(process.env.STENTOR_BIN, line, { stdio: "ignore" });
    const code = await new Promise((resolve) => listening.once("exit", resolve));
    assert.equal(code, 0, one.name);
    await believed(one, arrived, sent);
  }
});

test("cloudevents sends each form and reads each form", async () => {
  const map = await server.map("cloudevents");
  const arrived = [];
  const far = createServer((request, response) => {
    const pieces = [];
    request.on("data", (piece) => pieces.push(piece));
    request.on("end", () => {
      arrived.push({ headers: request.headers, body: Buffer.concat(pieces).toString() });
      response.end();
    });
  });
  await new Promise((resolve) => far.listen(0, "127.0.0.1", resolve));
  try {
    const at = (path) => `http://127.0.0.1:${far.address().port}/${path}`;
    await server.call("PUT", `/api/maps/${map.id}/webhooks/toggle`, map.token, { enabled: true });
    for (const [path, more] of [["one", { format: "cloudevents" }], ["two", { format: "cloudevents_binary" }], ["three", { format: "cloudevents", batch: { max_events: 2, max_wait_ms: 100 } }]]) {
      await server.call("POST", `/api/maps/${map.id}/webhooks`, map.token, { url: at(path), ...more });
    }
    const event = (id) => new CloudEvent({ type: "com.example.created", source: "/shop", id, time: "2024-01-15T10:30:00.000Z", data: { n: 1 } });
    const publish = async ({ headers, body }) => {
      const answer = await fetch(`${server.url}/api/maps/${map.id}/events`, { method: "POST", headers: { ...headers, authorization: `Bearer ${map.token}` }, body });
      assert.equal(answer.status, 201, await answer.clone().text());
      return (await answer.json()).data.ids;
    };
    const first = await publish(HTTP.structured(event("1")));
    assert.deepEqual(await publish(HTTP.binary(event("1"))), first);
    const batch = { headers: { "content-type": "application/cloudevents-batch+json" }, body: JSON.stringify([event("1"), event("2")]) };
    assert.equal((await publish(batch))[0], first[0]);
    await until("each form arrives", () => arrived.length >= 5);
    const read = arrived.flatMap((message) => [HTTP.toEvent(message)].flat());
    assert.equal(read.length, 6);
    for (const one of read) {
      assert.equal(one.type, "com.example.created");
      assert.equal(one.data.n, 1);
      assert.equal(one.data.cloudevent.source, "/shop");
    }
  } finally {
    far.close();
  }
});
