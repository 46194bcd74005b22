// The frame: who is logged in, where they are, and the view that belongs there.
import { html, render, useEffect, useRef, useState } from "./html.js";
import { StentorError } from "../stentor.js";
import { channelName, channels, isAdmin, may } from "./api.js";
import { Channel, Feed } from "./channel.js";
import { Channels } from "./channels.js";
import { AllConnections } from "./connections.js";
import { followNotices, notices, unfollowNotices } from "./notices.js";
import { Overview } from "./overview.js";
import { to, useRoute } from "./route.js";
import { accept, login, logout, offer, session, takeFromAddress } from "./session.js";
import { useAction, useResource, useStore } from "./store.js";
import { Source } from "./source.js";
import { Sources } from "./sources.js";
import { System } from "./system.js";
import { Tokens } from "./tokens.js";
import { Bones, Confirm, Empty, Field, Head, Icon, Logo, Toasts, Trouble } from "./ui.js";
import { Theme } from "./theme.js";
import { Webhook } from "./webhook.js";
import { Webhooks } from "./webhooks.js";

const VIEWS = [
  { name: "overview", title: "Overview", shown: () => true, view: (_, query) => html`<${Overview} query=${query} />` },
  { name: "channels", title: "Channels", shown: () => true, view: () => html`<${Channels} />` },
  { name: "webhooks", title: "Webhooks", shown: () => may("manage"), view: (_, query) => html`<${Webhooks} query=${query} />` },
  { name: "sources", title: "Sources", shown: () => may("manage"), view: (_, query) => html`<${Sources} query=${query} />` },
  { name: "tokens", title: "Tokens", shown: () => may("manage"), view: (_, query) => html`<${Tokens} query=${query} />` },
  { name: "system", title: "System", shown: isAdmin, view: (_, query) => html`<${System} query=${query} />` },
];

/** Views that have no place of their own in the navigation, and under which of its places they stand. */
const DEEPER = {
  map: { under: "channels", view: ([, id, view], query) => html`<${Channel} key=${`map:${id}`} kind="map" id=${id} view=${view} query=${query} />` },
  organization: { under: "channels", view: ([, id, view], query) => html`<${Channel} key=${`organization:${id}`} kind="organization" id=${id} view=${view} query=${query} />` },
  feed: { under: "channels", view: (_, query) => html`<${Feed} query=${query} />` },
  connections: { under: "channels", shown: () => may("manage"), view: () => html`<${AllConnections} />` },
  source: { under: "sources", view: ([, id, view], query) => html`<${Source} key=${id} id=${id} view=${view} query=${query} />` },
  webhook: { under: "webhooks", view: ([, kind, channel, id], query) => html`<${Webhook} key=${`${channel}/${id}`} kind=${kind} channel=${channel} id=${id} query=${query} />` },
};

function App() {
  const { token, who, problem } = useStore(session);
  const [error, setError] = useState(null);
  useEffect(() => {
    if (!token || who) return undefined;
    let timer = 0;
    const enter = () => login(token).then(() => setError(null), (failure) => {
      if (failure instanceof StentorError && failure.final) return logout(failure.message);
      setError(failure);
      timer = setTimeout(enter, 3000);
      return undefined;
    });
    enter();
    return () => clearTimeout(timer);
  }, [token, who]);
  useEffect(() => {
    if (!who) return undefined;
    if (who.admin) followNotices();
    return unfollowNotices;
  }, [who]);

  if (!token) return html`<${Login} problem=${problem} /><${Toasts} />`;
  if (!who) return html`<main class="login"><div class="card">
    ${error ? html`<${Trouble} error=${`${error.message}. Trying again.`} />` : html`<${Bones} />`}</div></main><${Offer} />`;
  return html`<${Shell} key=${token} who=${who} /><${Toasts} /><${Offer} />`;
}

/** Asks whoever is logged in whether a link may log them in as somebody else. */
function Offer() {
  const link = useStore(offer);
  const enter = useAction(() => accept(link));
  if (!link) return null;
  return html`<${Confirm} title="Log in by this link?" action="Log in anew" busy=${enter.busy} error=${enter.error}
    onConfirm=${enter.run} onClose=${() => offer.set(null)}>
    <p>The link that was opened holds another login. It would take the place of yours in this tab. Accept it only if you opened it yourself.</p>
  <//>`;
}

function Login({ problem }) {
  const [token, setToken] = useState("");
  const enter = useAction(() => login(token.trim()));
  useEffect(() => void (document.title = "Log in · Stentor"), []);
  const submit = (event) => {
    event.preventDefault();
    if (token.trim()) enter.run();
  };
  return html`<main class="login"><div class="card">
    <${Logo} /><h1>Stentor</h1><p class="soft">Log in with a token: the admin's, or one of a channel.</p>
    <details class="more where"><summary>Where do I find one?</summary><p class="small">The server's first start makes the admin token and keeps it in the file <code>admin-token</code> of its data folder;
      on a terminal, <code>stentor serve</code> also prints a link that logs you in. A channel's token was shown when the channel was made; whoever manages the channel can make another.</p></details>
    <form class="form" onSubmit=${submit}>
      <${Field} label="Token" hint="Kept in this tab only, until you close it." problem=${enter.error?.message ?? problem}>
        ${(tied) => html`<input ...${tied} name="token" type="password" required autocomplete="off" autofocus value=${token}
          onInput=${(event) => setToken(event.target.value)} />`}
      <//>
      <button type="submit" class="button main" disabled=${enter.busy}>Log in</button>
    </form>
  </div></main>`;
}

function Shell({ who }) {
  const { parts, query } = useRoute();
  const { unseen } = useStore(notices);
  const main = useRef(null);
  const own = useResource(async () => (who.admin ? [] : await channels()), [who.id]);
  const called = (name) => own.data?.find((of) => channelName(of) === name)?.name ?? { "map:*": "all maps", "organization:*": "all organizations" }[name] ?? name;
  const name = parts[0] ?? "overview";
  const views = VIEWS.filter((view) => view.shown());
  const deeper = DEEPER[name]?.shown?.() === false ? undefined : DEEPER[name];
  const place = deeper?.under ?? name;
  const view = deeper ?? views.find((candidate) => candidate.name === name);
  const path = parts.join("/");
  const first = useRef(true);
  useEffect(() => {
    document.title = `${view?.title ?? "Stentor"} · Stentor`;
    if (first.current) first.current = false;
    else {
      scrollTo(0, 0);
      main.current?.focus({ preventScroll: true });
    }
  }, [path]);
  return html`<div class="shell">
    <a class="skip" href="#content" onClick=${(event) => { event.preventDefault(); main.current.focus(); }}>Skip to the content</a>
    <header class="side">
      <a class="brand" href=${to([])}><${Logo} />Stentor</a>
      <nav class="nav" aria-label="Dashboard">
        ${views.map((item) => html`<a key=${item.name} href=${to([item.name])} aria-current=${item.name === place ? "page" : undefined}>
          <${Icon} name=${item.name} />${item.title}${item.name === "system" && unseen > 0 && html`<span
            class="count">${unseen > 99 ? "99+" : unseen}<span class="unseen"> new</span></span>`}
        </a>`)}
      </nav>
      <div class="whoami">
        <p class="anywhere"><strong>${who.admin ? "Admin" : html`<bdi>${who.name ?? who.id}</bdi>`}</strong>${who.admin ? "every channel" : html`<bdi>${(who.channels ?? [who.channel]).map(called).join(", ")}</bdi>`}</p>
        <a class="reference" href="docs">Documentation</a>
        <div class="buttons"><${Theme} /><button type="button" class="button small" onClick=${() => logout()}>
          <${Icon} name="leave" />Log out</button></div>
      </div>
    </header>
    <main class="page" id="content" ref=${main} tabindex="-1">
      ${view ? view.view(parts, query) : html`<${Head} title="Not found" /><div class="card">
        <${Empty} icon="search" title="There is nothing here">The address leads to no view, or to one that this token may not see.<//>
        </div>`}
    </main>
  </div>`;
}

takeFromAddress();
addEventListener("hashchange", takeFromAddress);
render(html`<${App} />`, document.getElementById("root"));
