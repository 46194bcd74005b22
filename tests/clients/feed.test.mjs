// npm eventsource on the feed, as the document of the feed family shows it, against the real server.
import assert from "node:assert/strict";
import { test } from "node:test";
import { EventSource } from "eventsource";
import EventSource2 from "eventsource-2";
import { ADMIN, Stentor, until } from "./stentor.mjs";

const withHeader = (url) => (token) => new EventSource2(url, { headers: { Authorization: "Bearer " + token } });
const withFetch = (url) => (token) =>
  new EventSource(url, {
    fetch: (address, init) => fetch(address, { ...init, headers: { ...init.headers, Authorization: `Bearer ${token}` } }),
  });

/** Listens for the types by name, because that is how the feed names its events. */
function collect(source) {
  const got = { source, events: [], connected: 0, unnamed: 0 };
  for (const type of ["entries_created", "entries_deleted"]) {
    source.addEventListener(type, (event) => got.events.push({ type, id: event.lastEventId, data: event.data }));
  }
  source.addEventListener("connected", () => (got.connected += 1));
  source.onmessage = () => (got.unnamed += 1);
  source.onerror = () => {};
  return got;
}

test("EventSource follows all channels by name and comes back for what it missed", async () => {
  const server = await Stentor.start();
  const channels = [await server.map("one"), await server.organization("two"), await server.organization("three")];
  const feed = `${server.url}/events/stream?events=entries_created,entries_deleted&path_prefix=/data/`;
  const followers = [withFetch(feed)(ADMIN), withHeader(feed)(ADMIN), new EventSource(`${feed}&token=${channels[1].token}`)].map(collect);
  const expected = [];
  const publish = async () => {
    for (const [n, channel] of [...channels.entries(), ...channels.entries()]) {
      const type = n % 2 ? "entries_deleted" : "entries_created";
      const payload = { entries: [{ path: "/logs/a" }, { path: `/data/${expected.length}` }] };
      const [id] = await server.publish(channel, { event_type: type, payload });
      expected.push({ type, channel, id: id.startsWith("evt_") ? id : `evt_${id}`, payload });
      await server.publish(channel, { event_type: type, payload: { path: "/database" } });
      await server.publish(channel, { event_type: "versions_created", payload: { path: "/data/x" } });
    }
  };
  const own = expected => expected.filter(({ channel }) => channel === channels[1]);
  try {
    await until("all are connected", () => followers.every((f) => f.connected === 1));
    await publish();
    for (const [round, signal] of ["SIGKILL", "SIGTERM"].entries()) {
      await until("all events are there", () => followers.every((f, i) => f.events.length >= (i < 2 ? expected : own(expected)).length));
      await server.restart(signal);
      await publish();
      await until("all are connected again", () => followers.every((f) => f.connected >= round + 2));
    }
    await until("the last are there", () => followers.every((f, i) => f.events.length >= (i < 2 ? expected : own(expected)).length));
    for (const [i, follower] of followers.entries()) {
      const wanted = i < 2 ? expected : own(expected);
      assert.deepEqual(follower.events.map(({ type, id }) => ({ type, id })), wanted.map(({ type, id }) => ({ type, id })), `follower ${i}`);
      for (const [n, { type, id, data }] of follower.events.entries()) {
        const envelope = JSON.parse(data);
        assert.deepEqual(Object.keys(envelope), ["event_id", "event_type", "timestamp", "payload"]);
        assert.deepEqual([envelope.event_id, envelope.event_type, envelope.payload], [id, type, wanted[n].payload]);
        assert.ok(Number.isInteger(envelope.timestamp));
      }
      assert.equal(follower.unnamed, 0);
    }
  } finally {
    for (const { source } of followers) source.close();
    await server.stop();
  }
});
