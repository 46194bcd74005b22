// The live page: the events of one map, newest first, as they are stored.
// A token is never part of an address. It comes in the fragment (which browsers keep to themselves), moves to this
// tab's storage, and buys a single-use ticket for each connection.

const SHOWN_MAX = 200; // entries kept in the page
const HELD_MAX = 200; // entries kept while the list is paused
const FIRST_PAGE = 30; // events of the past to begin with
const TYPES_MAX = 60; // chips of the type filter
const FACTS_MAX = 6;
const BACKOFF_FIRST_MS = 500;
const BACKOFF_MAX_MS = 20_000;
const OPEN_TIMEOUT_MS = 15_000;

const $ = (id) => document.getElementById(id);
const page = {
  map: $("map"), state: $("state"), form: $("connect"), problem: $("problem"), live: $("live"),
  count: $("count"), countLabel: $("count-label"), types: $("types"), held: $("held"), empty: $("empty"), list: $("events"),
  expand: $("expand"), pause: $("pause"), clear: $("clear"), leave: $("leave"),
};

// ---- where to listen -------------------------------------------------------------------------------------------

const KEY = "stentor.live";

/** The map and token of the fragment, else those of this tab; the fragment loses its token at once. */
function place() {
  const given = new URLSearchParams(location.hash.slice(1));
  const map = given.get("map");
  const token = given.get("token");
  const kept = JSON.parse(sessionStorage.getItem(KEY) ?? "null");
  if (map && token) {
    sessionStorage.setItem(KEY, JSON.stringify({ map, token }));
    history.replaceState(null, "", `#map=${encodeURIComponent(map)}`);
    return { map, token };
  }
  return kept && (!map || map === kept.map) ? kept : { map: map ?? "", token: "" };
}

// ---- the connection --------------------------------------------------------------------------------------------

/** An answer that trying again will not change. */
class Refused extends Error {}

async function ask(to, path, init = {}) {
  const address = `api/maps/${encodeURIComponent(to.map)}/${path}`;
  const answer = await fetch(address, {
    ...init,
    headers: { Accept: "application/json", Authorization: `Bearer ${to.token}`, ...init.headers },
    signal: AbortSignal.timeout(OPEN_TIMEOUT_MS),
  });
  if (answer.ok) return answer.json();
  const said = await answer.json().then((body) => body.error, () => null);
  const sentence = typeof said === "string" ? said : `The server answered ${answer.status}`;
  if (answer.status < 500 && answer.status !== 429) throw new Refused(sentence);
  const error = new Error(sentence);
  error.waitMs = Number(answer.headers.get("Retry-After")) * 1000 || 0;
  throw error;
}

let link = null; // the connection of now; whatever belongs to an earlier one is dropped

class Link {
  constructor(to) {
    this.to = to;
    this.cursor = null;
    this.failures = 0;
    this.source = null;
    this.timer = 0;
  }

  async start() {
    this.say("wait", "Connecting…");
    try {
      if (this.cursor === null) await this.past();
      if (this === link) await this.open();
    } catch (error) {
      if (this !== link) return;
      if (error instanceof Refused) return leave(error.message);
      this.again(error.waitMs);
    }
  }

  /** The latest events, so that the page does not begin empty. The stream goes on after the newest of them. */
  async past() {
    const { data } = await ask(this.to, `events?order=desc&limit=${FIRST_PAGE}`);
    if (this !== link) return;
    for (const event of data.reverse()) take(event, false);
    this.cursor = data.at(-1)?.id ?? "";
  }

  async open() {
    const body = JSON.stringify(this.cursor ? { since: this.cursor } : {});
    const init = { method: "POST", body, headers: { "Content-Type": "application/json" } };
    const { data } = await ask(this.to, "events/ticket", init);
    if (this !== link) return;
    const query = new URLSearchParams({ ticket: data.ticket, event_names: "false" });
    const source = new EventSource(`api/maps/${encodeURIComponent(this.to.map)}/events/stream?${query}`);
    this.source = source;
    source.addEventListener("connected", (event) => {
      this.failures = 0;
      this.cursor = event.lastEventId;
      this.say("live", "Live");
    });
    source.addEventListener("gap", (event) => showGap(JSON.parse(event.data)));
    source.onmessage = (message) => {
      this.cursor = message.lastEventId;
      take(JSON.parse(message.data), true);
    };
    // The browser would come back with the same ticket, which is spent.
    source.onerror = () => {
      source.close();
      if (this === link) this.again(0);
    };
  }

  again(atLeastMs) {
    const most = Math.min(BACKOFF_MAX_MS, BACKOFF_FIRST_MS * 2 ** this.failures);
    this.failures = Math.min(this.failures + 1, 16);
    const wait = Math.max(atLeastMs ?? 0, most / 2 + Math.random() * (most / 2));
    const seconds = Math.round(wait / 1000);
    this.say("bad", seconds > 1 ? `Reconnecting in ${seconds} s` : "Reconnecting…");
    this.timer = setTimeout(() => this.start(), wait);
  }

  /** Waiting has no sense any more: the network is back. */
  now() {
    if (!this.timer || this.source?.readyState === EventSource.OPEN) return;
    this.stop();
    this.start();
  }

  stop() {
    clearTimeout(this.timer);
    this.timer = 0;
    this.source?.close();
  }

  say(state, text) {
    page.state.dataset.state = state;
    if (page.state.textContent !== text) page.state.textContent = text;
  }
}

function listen(to) {
  link?.stop();
  reset();
  page.form.hidden = true;
  page.live.hidden = false;
  page.map.textContent = to.map;
  page.map.hidden = false;
  document.title = `${to.map} · Stentor`;
  link = new Link(to);
  link.start();
}

function leave(problem = "") {
  link?.stop();
  const map = link?.to.map ?? place().map;
  link = null;
  sessionStorage.removeItem(KEY);
  page.state.dataset.state = "idle";
  page.state.textContent = "Not connected";
  page.live.hidden = true;
  page.map.hidden = true;
  page.form.hidden = false;
  page.problem.textContent = problem;
  page.form.elements.map.value = map;
  page.form.elements.token.value = "";
  document.title = "Stentor";
  (map ? page.form.elements.token : page.form.elements.map).focus();
}

// ---- what is shown ---------------------------------------------------------------------------------------------

let received = 0;
let paused = false;
let held = []; // newest last, while paused
const seen = new Map(); // type -> { count, chip, number }
const wanted = new Set(); // no type chosen: all are shown

function reset() {
  received = 0;
  held = [];
  seen.clear();
  wanted.clear();
  page.types.querySelectorAll("button").forEach((chip) => chip.remove());
  page.types.hidden = true;
  page.list.replaceChildren();
  press(page.pause, (paused = false));
  counters();
}

function counters() {
  page.count.textContent = received.toLocaleString();
  page.countLabel.textContent = received === 1 ? "event" : "events";
  page.empty.hidden = page.list.childElementCount > 0;
  page.held.hidden = held.length === 0;
  page.held.textContent = `Show ${held.length}${held.length === HELD_MAX ? " newest" : ""} held back`;
}

function take(event, fresh) {
  received += 1;
  counted(event.type);
  if (paused && fresh) {
    held.push(event);
    if (held.length > HELD_MAX) held.shift();
  } else {
    show(event, fresh);
  }
  counters();
}

function show(event, fresh) {
  const item = element("li", "event");
  if (fresh) item.classList.add("new");
  item.dataset.type = event.type;
  item.dataset.id = event.id;
  item.hidden = wanted.size > 0 && !wanted.has(event.type);
  const details = element("details");
  details.open = pressed(page.expand);
  const type = element("span", "type", event.type);
  type.dataset.group = group(event.type);
  const left = element("span");
  left.append(type);
  const time = element("time", "", clock.format(new Date(event.ts)));
  time.dateTime = event.ts;
  time.title = event.ts;
  const summary = element("summary");
  summary.append(time, left, facts(event.payload));
  details.append(summary);
  // The pretty text is made when somebody looks: most payloads are never opened.
  details.addEventListener("toggle", () => details.open && fill(details, event));
  if (details.open) fill(details, event);
  item.append(details);
  add(item);
}

function add(item) {
  page.list.prepend(item);
  while (page.list.childElementCount > SHOWN_MAX) page.list.lastElementChild.remove();
}

function showGap({ requested, reason }) {
  const text = reason === "ahead"
    ? "The server's log ends before the last event seen here; it goes on from its own end."
    : "Some events between the last one seen here and the next were removed by retention.";
  const item = element("li", "gap", text);
  item.title = `after ${requested}`;
  add(item);
  counters();
}

const clock = new Intl.DateTimeFormat(undefined, {
  hour: "2-digit", minute: "2-digit", second: "2-digit", fractionalSecondDigits: 3, hourCycle: "h23",
});

function group(type) {
  const found = /kill|acl|rally|structure|signature|connection|character|system/.exec(type);
  return found ? found[0] : "other";
}

/** The first plain values of a payload: enough to follow what is going on without opening it. */
function facts(payload) {
  const line = element("span", "facts");
  if (payload === null || typeof payload !== "object") {
    line.append(element("span", "", JSON.stringify(payload)));
    return line;
  }
  const plain = Object.entries(payload)
    .filter(([name, value]) => value !== null && typeof value !== "object" && !/_id$|^id$/.test(name));
  for (const [name, value] of plain.slice(0, FACTS_MAX)) {
    const fact = element("span");
    const text = typeof value === "number" ? value.toLocaleString() : String(value);
    fact.append(element("i", "", name.replaceAll("_", " ")), text.slice(0, 200));
    line.append(fact);
  }
  return line;
}

function fill(details, event) {
  if (details.querySelector("pre")) return;
  const pre = element("pre");
  pre.tabIndex = 0;
  pre.setAttribute("aria-label", `Payload of ${event.type}`);
  pre.append(...coloured(JSON.stringify(event.payload, null, 2)));
  details.append(pre, element("span", "id", event.id));
}

const TOKENS = /("(?:[^"\\]|\\.)*")(\s*:)?|(-?\d[\d.eE+-]*)|(true|false|null)/g;

/** JSON text as nodes: strings, numbers and words get a colour, names do not. */
function* coloured(text) {
  let done = 0;
  for (const match of text.matchAll(TOKENS)) {
    const [all, string, colon, number] = match;
    yield text.slice(done, match.index);
    done = match.index + all.length;
    if (string && colon) yield all;
    else yield element("span", string ? "string" : number ? "number" : "word", all);
  }
  yield text.slice(done);
}

function counted(type) {
  let entry = seen.get(type);
  if (!entry) {
    if (seen.size >= TYPES_MAX) return;
    const chip = element("button", "", type);
    const number = element("span");
    chip.type = "button";
    chip.append(number);
    press(chip, false);
    chip.addEventListener("click", () => choose(type, chip));
    entry = { count: 0, chip, number };
    seen.set(type, entry);
    // in the alphabet's order, so that a chip is where it was a moment ago
    const after = [...seen.keys()].filter((other) => other > type).sort()[0];
    page.types.insertBefore(chip, after ? seen.get(after).chip : null);
    page.types.hidden = false;
  }
  entry.count += 1;
  entry.number.textContent = entry.count;
}

function choose(type, chip) {
  if (!wanted.delete(type)) wanted.add(type);
  press(chip, wanted.has(type));
  for (const item of page.list.children) {
    if (item.dataset.type) item.hidden = wanted.size > 0 && !wanted.has(item.dataset.type);
  }
}

function element(name, kind = "", text = "") {
  const made = document.createElement(name);
  if (kind) made.className = kind;
  if (text) made.textContent = text;
  return made;
}

const pressed = (button) => button.getAttribute("aria-pressed") === "true";
const press = (button, on) => button.setAttribute("aria-pressed", String(on));

// ---- what people do --------------------------------------------------------------------------------------------

function resume() {
  press(page.pause, (paused = false));
  const waiting = held;
  held = [];
  for (const event of waiting) show(event, true);
  counters();
}

page.form.addEventListener("submit", (event) => {
  event.preventDefault();
  const { map, token } = page.form.elements;
  const to = { map: map.value.trim(), token: token.value.trim() };
  if (!to.map || !to.token) return;
  page.problem.textContent = "";
  sessionStorage.setItem(KEY, JSON.stringify(to));
  history.replaceState(null, "", `#map=${encodeURIComponent(to.map)}`);
  listen(to);
});
page.pause.addEventListener("click", () => (paused ? resume() : press(page.pause, (paused = true))));
page.held.addEventListener("click", () => {
  resume();
  page.list.focus();
});
page.clear.addEventListener("click", () => {
  page.list.replaceChildren();
  held = [];
  counters();
});
page.expand.addEventListener("click", () => {
  const open = !pressed(page.expand);
  press(page.expand, open);
  for (const details of page.list.querySelectorAll("details")) details.open = open;
});
page.leave.addEventListener("click", () => leave());
addEventListener("online", () => link?.now());

function begin() {
  const to = place();
  if (to.token) listen(to);
  else if (!link) leave();
}
addEventListener("hashchange", () => new URLSearchParams(location.hash.slice(1)).has("token") && begin());
begin();
