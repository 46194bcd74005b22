// All sources: where events come in from outside, and how to make one.
import { html, useEffect, useState } from "./html.js";
import { channelName, channels } from "./api.js";
import { count, plural } from "./format.js";
import { notices } from "./notices.js";
import { replace, to } from "./route.js";
import { useAction, useInterval, useResource } from "./store.js";
import { Ago, Badge, Dialog, Empty, Field, Head, Icon, Loaded, Secret, SelectField, TextField, Trouble, useForm } from "./ui.js";
import { HowToSend } from "./source-snippets.js";
import { createSource, isRefusing, listSources, sourcePresets } from "./source-api.js";
import { occurs } from "./words.js";

const REFRESH_MS = 10_000;

/** How senders prove who they are. */
export const AUTHENTICATION = {
  api_key: "API key: a header with a secret",
  hmac: "HMAC: each request signed",
  jwt: "JWT: a signed token",
  standard: "Standard Webhooks",
  github: "GitHub",
  stripe: "Stripe",
  slack: "Slack",
  none: "None: whoever knows the address",
};

/** How a source is believed, for people: a name, or the recipe that its owner wrote. */
export function authenticationName(authentication) {
  if (typeof authentication === "object") return `Recipe: ${authentication?.scheme ?? "its own"}`;
  return AUTHENTICATION[authentication] ?? authentication.charAt(0).toUpperCase() + authentication.slice(1);
}

export const sourceAddress = (source) => to(["source", source.id]);

/** With more sources than this there is a field to search them. */
const SEARCH_FROM = 8;
/** A shorter part of an address finds nothing. */
const ADDRESS_PART = 8;

export function Sources({ query }) {
  const find = query.get("find") ?? "";
  const list = useResource(async () => {
    const [sources, of] = await Promise.all([listSources(), channels()]);
    return { sources, channels: of };
  }, []);
  const [creating, setCreating] = useState(false);
  useInterval(list.reload, REFRESH_MS);
  useEffect(() => {
    let newest = notices.value.rows[0]?.id;
    return notices.listen(({ rows: [row] }) => {
      if (row && row.id !== newest && row.type.startsWith("source.")) list.reload();
      newest = row?.id;
    });
  }, [list.reload]);
  return html`
    <${Head} title="Sources" below=${html`<p>Addresses at which game servers and third parties post events, checked and stored before they get their answer.</p>`}>
      <button type="button" class="button main" disabled=${!list.data?.channels.length} onClick=${() => setCreating(true)}>
        <${Icon} name="plus" />New source</button>
    <//>
    <${Loaded} of=${list}>${({ sources, channels: of }) => (sources.length === 0
      ? html`<div class="card">
        <${Empty} icon="sources" title="No sources yet">Take in webhooks of GitHub, Stripe, Slack, or of a server of yours: each becomes an event of a channel.<//></div>`
      : html`<${Listed} sources=${sources} channels=${of} find=${find} />`)}<//>
    ${creating && html`<${Create} channels=${list.data.channels} onClose=${() => setCreating(false)} onMade=${list.reload} />`}`;
}

export const channelTitle = (list, name) => list.find((of) => channelName(of) === name)?.name ?? name;

/** Those that refuse come first. */
function Listed({ sources, channels: of, find }) {
  const texts = (source) => [source.name, authenticationName(source.authentication), source.status, channelTitle(of, source.channel)];
  // an id has every letter and digit somewhere in it, so that only a part of some length says anything
  const isOf = ({ url }) => find.trim().length > ADDRESS_PART && url.includes(find.trim());
  const rows = sources.filter((source) => occurs(find, texts(source)) || isOf(source)).sort((a, b) => isRefusing(b) - isRefusing(a));
  return html`
    ${(sources.length > SEARCH_FROM || find) && html`<div class="filter-fields source-find"><div class="filter-field"><${Field} label="Search" hint=${find ? `${plural(rows.length, "source")} of ${sources.length}` : "By name, sender, channel or address."}>
      ${(tied) => html`<input ...${tied} type="search" value=${find} onInput=${(event) => replace(["sources"], { find: event.target.value })} />`}<//></div></div>`}
    ${rows.length === 0 ? html`<div class="card"><${Empty} icon="search" title="No source is like that">Search for a part of its name, its sender or its channel.<//></div>`
    : html`<ul class="list card">${rows.map((source) => html`<${Row} key=${source.id} source=${source} channels=${of} />`)}</ul>`}`;
}

function Row({ source, channels: list }) {
  const { inARow, lastReason } = source.refusedSenders;
  const refuses = isRefusing(source);
  return html`<li class="hook-row">
    <div class="who"><a class="title anywhere" href=${sourceAddress(source)}><bdi>${source.name ?? source.id}</bdi></a>
      <span class="soft small clip">${authenticationName(source.authentication)} · into <bdi>${channelTitle(list, source.channel)}</bdi></span></div>
    <div class="how">${source.status === "paused" ? html`<${Badge}>Paused<//>` : refuses ? html`<${Badge} kind="wait">Refuses senders<//>` : html`<${Badge} kind="good">Active<//>`}<span
      class="soft small clip" title=${refuses ? lastReason : undefined}>${plural(source.eventsReceived, "event")}${refuses && `, ${count(inARow)} refused since`}</span></div>
    <span class="soft small when"><${Ago} iso=${source.lastEventAt} none="nothing yet" /></span>
  </li>`;
}

// ---- making one ------------------------------------------------------------------------------------------------

const KEY_OF = { api_key: ["apiKey", "API key"], hmac: ["secretKey", "Secret"], standard: ["secretKey", "Secret"], github: ["secretKey", "Secret"], stripe: ["secretKey", "Signing secret"], slack: ["secretKey", "Signing secret"] };

/** Those who give the secret themselves, so that it has to be copied from there. */
const GIVEN_BY_SENDER = new Set(["stripe", "slack"]);

/** Reads a rule for the type: `header: X-GitHub-Event`, `/path/in/body`, or a fixed type. Several: one a line. */
export function rules(text) {
  const found = text.split("\n").map((line) => line.trim()).filter(Boolean).map((line) => {
    const header = /^header:\s*(\S+)$/i.exec(line);
    if (header) return { header: header[1] };
    return line.startsWith("/") ? { pointer: line } : line;
  });
  return found.length ? found : null;
}

/** Reads `field: type` lines of a schema. */
export function schema(text) {
  const lines = text.split("\n").map((line) => line.trim()).filter(Boolean);
  return lines.length ? Object.fromEntries(lines.map((line) => line.split(/\s*:\s*/, 2))) : null;
}

function Create({ channels: list, onClose, onMade }) {
  const usual = list.find(({ kind, id }) => kind === "organization" && id === "default") ?? list[0];
  const form = useForm({
    name: "", channel: channelName(usual), authentication: "hmac", key: "", secretKey: "", apiKey: "", hmacAlgorithm: "sha256",
    publicKey: "", jwtAlgorithm: "HS256", issuer: "", audience: "", eventType: "", schema: "", requests: "", jwt: "", rateLimit: "",
  });
  const [made, setMade] = useState(null);
  const { values } = form;
  const presets = useResource(sourcePresets, []);
  const preset = presets.data?.find(({ name }) => name === values.authentication);
  const [keyName, keyLabel] = preset ? [preset.key.field, preset.key.called] : (KEY_OF[values.authentication] ?? []);
  // those who give the secret themselves: it has to be copied from there
  const isGiven = preset ? !preset.key.made : GIVEN_BY_SENDER.has(values.authentication);
  const choices = [...Object.entries(AUTHENTICATION), ...(presets.data ?? []).filter(({ name }) => !AUTHENTICATION[name]).map(({ name, title }) => [name, title])];
  const create = useAction(async () => {
    const key = values.key.trim();
    const body = {
      name: values.name.trim() || null,
      channel: values.channel,
      authentication: values.authentication,
      ...(keyName && key ? { [keyName]: key } : {}),
      ...(values.authentication === "hmac" ? { hmacAlgorithm: values.hmacAlgorithm } : {}),
      ...(values.authentication === "jwt"
        ? { jwt: { algorithm: values.jwtAlgorithm, ...(key ? { key } : {}), ...(values.issuer.trim() ? { issuer: values.issuer.trim() } : {}), ...(values.audience.trim() ? { audience: values.audience.trim() } : {}) } }
        : {}),
      ...(rules(values.eventType) ? { eventType: rules(values.eventType) } : {}),
      ...(schema(values.schema) ? { schema: schema(values.schema) } : {}),
      ...(values.requests ? { rateLimit: { requests: Number(values.requests), perSeconds: 60 } } : {}),
    };
    try {
      setMade({ ...(await createSource(body)), given: key });
      onMade();
    } catch (error) {
      form.fail(error);
    }
  });
  if (made) {
    const { endpoint, secret } = made;
    return html`<${Dialog} title="The source is there" wide onClose=${onClose}>
      ${secret && html`<${Secret} text=${secret}>The key that senders need. Copy it now: it is shown only once.<//>`}
      <${HowToSend} source=${endpoint} secret=${secret ?? made.given} />
      <footer><button type="button" class="button" onClick=${onClose}>Done</button>
        <a class="button main" href=${sourceAddress(endpoint)} onClick=${onClose}>Open it</a></footer>
    <//>`;
  }
  const asymmetric = values.authentication === "jwt" && values.jwtAlgorithm !== "HS256";
  const keyProblem = form.problems.secretKey ?? form.problems.apiKey ?? form.problems.publicKey ?? form.problems.jwt;
  return html`<${Dialog} title="New source" onClose=${onClose}>
    <form class="form" onSubmit=${(event) => { event.preventDefault(); create.run(); }}>
      <${TextField} form=${form} name="name" label="Name" required hint="Such as Game server, or GitHub." />
      <${SelectField} form=${form} name="channel" label="Events go to" options=${list.map((of) => [channelName(of), of.name])} />
      <${SelectField} form=${form} name="authentication" label="Senders prove themselves by" options=${choices}
        hint=${values.authentication === "none" ? "Anybody who learns the address can make events." : (preset?.setup ?? "GitHub, Stripe, Slack and others stand in this list by their names.")} />
      ${values.authentication === "hmac" && html`<${SelectField} form=${form} name="hmacAlgorithm" label="Algorithm"
        options=${[["sha256", "SHA-256"], ["sha512", "SHA-512"]]} />`}
      ${values.authentication === "jwt" && html`
        <${SelectField} form=${form} name="jwtAlgorithm" label="Algorithm" options=${["HS256", "EdDSA", "ES256", "RS256"].map((name) => [name, name])} />
        <div class="row"><${TextField} form=${form} name="issuer" label="Issuer (optional)" />
          <${TextField} form=${form} name="audience" label="Audience (optional)" /></div>`}
      ${(keyLabel || values.authentication === "jwt") && html`<${Field} label=${values.authentication === "jwt" ? (asymmetric ? "Public key (PEM)" : "Key (optional)") : isGiven ? keyLabel : `${keyLabel} (optional)`} problem=${keyProblem}
        hint=${isGiven ? "The sender shows it where its webhooks are set up." : asymmetric ? "With which the sender's tokens are checked." : "Left empty, the server makes one and shows it once."}>
        ${(tied) => (asymmetric
          ? html`<textarea ...${tied} rows="4" required spellcheck=${false} value=${values.key} onInput=${(event) => form.set("key", event.target.value)} />`
          : html`<input ...${tied} type="password" autocomplete="new-password" required=${isGiven}
            value=${values.key} onInput=${(event) => form.set("key", event.target.value)} />`)}<//>`}
      <details class="more" open=${Boolean(form.problems.eventType || form.problems.schema || form.problems.rateLimit)}>
        <summary>Type of its events, schema, rate</summary>
        <${Rules} form=${form} />
      </details>
      ${form.trouble && html`<${Trouble} error=${form.trouble} />`}
      <footer><button type="button" class="button" onClick=${onClose}>Cancel</button>
        <button type="submit" class="button main" disabled=${create.busy}>Create</button></footer>
    </form>
  <//>`;
}

/** The fields about what is in the events. */
export function Rules({ form }) {
  const area = (name) => (tied) => html`<textarea ...${tied} rows="3" spellcheck=${false} value=${form.values[name]}
    onInput=${(event) => form.set(name, event.target.value)} />`;
  return html`<div class="form">
    <${Field} label="Where the type stands (optional)" problem=${form.problems.eventType}
      hint="One rule a line; the first that finds something counts: header: X-Event, a JSON pointer such as /action, or a fixed type. Left empty: event_type in the body, or what the provider uses.">${area("eventType")}<//>
    <${Field} label="Schema (optional)" problem=${form.problems.schema}
      hint="One field a line, such as amount: number. Types: string, number, boolean, date, unknown. Events are marked as valid or not, and kept either way.">${area("schema")}<//>
    <${Field} label="Requests a minute at most (optional)" problem=${form.problems.rateLimit}>
      ${(tied) => html`<input ...${tied} type="number" min="1" value=${form.values.requests}
        onInput=${(event) => form.set("requests", event.target.value)} />`}<//>
  </div>`;
}
