// The hook of the TypeScript client in a component, against the real server.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { cpSync, rmSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";

import { Window } from "happy-dom";

import { Stentor, until } from "./stentor.mjs";

let server;
let React;
let createRoot;
let useEvents;

before(async () => {
  const build = fileURLToPath(new URL("../../clients/typescript/build.mjs", import.meta.url));
  const built = spawnSync(process.execPath, [build], { encoding: "utf8" });
  assert.equal(built.status, 0, built.stdout + built.stderr);
  // as a registry would have it, so that React is the one of the page
  const client = fileURLToPath(new URL("../../clients/typescript/", import.meta.url));
  const installed = fileURLToPath(new URL("node_modules/stentor-client/", import.meta.url));
  rmSync(installed, { recursive: true, force: true });
  for (const part of ["dist", "package.json"]) cpSync(join(client, part), join(installed, part), { recursive: true });
  const page = new Window();
  for (const [name, value] of Object.entries({ window: page, document: page.document, navigator: page.navigator })) {
    Object.defineProperty(globalThis, name, { value, configurable: true });
  }
  React = (await import("react")).default;
  ({ createRoot } = await import("react-dom/client"));
  ({ useEvents } = await import("stentor-client/react"));
  server = await Stentor.start(["--dev"]);
});
after(() => server?.stop());

/** How many streams are open at the server. */
async function streams() {
  return Number(/^stentor_streams (\d+)$/m.exec(await (await fetch(`${server.url}/metrics`)).text())[1]);
}

test("useEvents shows what comes, keeps the newest, follows a change of the channel and ends with its component", async (t) => {
  const [first, second] = [await server.map("first"), await server.map("second")];
  const told = [];
  function Shown({ map }) {
    const options = { server: server.url, token: async () => map.token, channel: `map:${map.slug}`, keep: 2, onEvent: ({ id }) => told.push(id) };
    const { events, state, error } = useEvents(options);
    const text = [state, error?.status ?? "fine", ...events.map(({ detail }) => detail.payload.n)].join(" ");
    return React.createElement("p", null, text);
  }
  const place = document.createElement("div");
  const root = createRoot(place);
  t.after(() => root.unmount());
  root.render(React.createElement(Shown, { map: first }));
  await until(() => `it is open: ${place.textContent}`, () => place.textContent === "open fine");
  const ids = await server.publish(first, { events: [1, 2, 3].map((n) => ({ type: "add_system", payload: { n } })) });
  await until(() => `the newest are shown: ${place.textContent}`, () => place.textContent === "open fine 2 3");
  assert.deepEqual(told, ids);

  root.render(React.createElement(Shown, { map: second }));
  await until(() => `the other channel is open: ${place.textContent}`, () => place.textContent === "open fine");
  await until("the stream of the first is closed", async () => (await streams()) === 1);
  await server.publish(first, { type: "add_system", payload: { n: 4 } });
  await server.publish(second, { type: "add_system", payload: { n: 5 } });
  await until(() => `only the other is shown: ${place.textContent}`, () => place.textContent === "open fine 5");

  root.render(React.createElement(Shown, { map: { ...second, slug: "nowhere" } }));
  await until(() => `the refusal is shown: ${place.textContent}`, () => place.textContent === "closed 404");
  root.unmount();
  await until("no stream is left", async () => (await streams()) === 0);
});
