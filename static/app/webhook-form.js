// The form of a webhook, for a new one and for changes, with what it will send beside it.
import { html, useEffect, useMemo, useState } from "./html.js";
import { may, typesOf } from "./api.js";
import { Rehearsal } from "./rehearsal.js";
import { useAction, useResource } from "./store.js";
import { Check, Field, SelectField, TextField, Trouble, useForm } from "./ui.js";
import { changeWebhook, createWebhook, previewWebhook } from "./webhook-api.js";

const PREVIEW_AFTER_MS = 350;

const FORMATS = {
  map: "Map: the envelope of maps, signed",
  gateway: "Gateway: the envelope of organizations, signed",
  feed: "Feed: the envelope of the feed, signed",
  standard: "Standard Webhooks: the envelope with their signature",
  cloudevents: "CloudEvents 1.0",
  discord: "Discord message",
  slack: "Slack message",
  cloudevents_binary: "CloudEvents 1.0, binary: attributes in headers",
  raw: "Raw: requests of a source sent on as they came",
  template: "Your own template",
};

const TEMPLATE = '{"text": {{ event.type }}, "at": {{ event.ts }}}';

/** What the form starts with. */
function start(of, hook) {
  const retry = hook?.retryPolicy ?? null;
  return {
    name: hook?.name ?? "",
    url: hook?.url ?? "",
    format: hook?.format ?? (of.kind === "map" ? "map" : "gateway"),
    template: hook?.template ?? TEMPLATE,
    signed: true,
    secret: "",
    sessionId: hook?.sessionId ?? "",
    all: !hook || hook.events.includes("*"),
    events: hook && !hook.events.includes("*") ? hook.events.join(", ") : "",
    filter: hook?.filter ?? "",
    pathPrefix: (hook?.pathPrefix ?? []).join(", "),
    customHeaders: Object.entries(hook?.customHeaders ?? {}).map(([name, value]) => `${name}: ${value}`).join("\n"),
    ordered: hook?.ordered ?? false,
    batched: Boolean(hook?.batch),
    maxEvents: String(hook?.batch?.maxEvents ?? 10),
    maxWaitMs: String(hook?.batch?.maxWaitMs ?? 2000),
    limited: Boolean(hook?.rateLimit),
    perSecond: String(hook?.rateLimit?.perSecond ?? 5),
    burst: String(hook?.rateLimit?.burst ?? 10),
    policy: retry && retry.policy !== "schedule" ? retry.policy : "",
    delaySeconds: String(retry?.delaySeconds ?? 2),
    attempts: String(retry?.attempts ?? 15),
    maxDelaySeconds: String(retry?.maxDelaySeconds ?? 3600),
  };
}

const list = (text) => text.split(/[,\s]+/).filter(Boolean);

function headers(text) {
  const lines = text.split("\n").filter((line) => line.trim());
  return Object.fromEntries(lines.map((line) => {
    const colon = line.indexOf(":");
    return colon < 0 ? [line.trim(), ""] : [line.slice(0, colon).trim(), line.slice(colon + 1).trim()];
  }));
}

/** 32 random bytes as the 44 characters of base64 that a secret is. */
const randomSecret = () => btoa(String.fromCharCode(...crypto.getRandomValues(new Uint8Array(32))));

/** The form's values as the server takes them. A template is sent only where one is used. Secrets of maps are made by
 * the server; those of organizations are the owner's to choose, or to do without. */
function spec(of, values, hook) {
  const made = {
    name: values.name.trim() || null,
    url: values.url.trim(),
    format: values.format,
    events: values.all ? ["*"] : list(values.events),
    filter: values.filter.trim() || null,
    pathPrefix: list(values.pathPrefix),
    customHeaders: headers(values.customHeaders),
    ordered: values.ordered,
    batch: values.batched ? { maxEvents: Number(values.maxEvents), maxWaitMs: Number(values.maxWaitMs) } : null,
    rateLimit: values.limited ? { perSecond: Number(values.perSecond), burst: Number(values.burst) } : null,
  };
  if (values.format === "template") made.template = values.template;
  if (of.kind === "organization") {
    made.sessionId = values.sessionId.trim() || null;
    if (!hook && values.signed) made.secret = values.secret.trim() || randomSecret();
  }
  if (values.policy) {
    made.retryPolicy = { policy: values.policy, delaySeconds: Number(values.delaySeconds), attempts: Number(values.attempts), maxDelaySeconds: Number(values.maxDelaySeconds) };
  } else if (hook?.retryPolicy && hook.retryPolicy.policy !== "schedule") made.retryPolicy = null;
  return made;
}

/** @param hook the webhook that is changed; left out for a new one */
export function WebhookForm({ of, hook, onDone, onClose }) {
  const form = useForm(start(of, hook));
  const types = useResource(() => typesOf(of), [of.kind, of.id]);
  const { values } = form;
  const formats = Object.entries(FORMATS).filter(([name]) => of.kind !== "map" || name !== "gateway");
  const save = useAction(async () => {
    try {
      const made = spec(of, values, hook);
      // a secret that was chosen here is not in the answer
      onDone(hook ? await changeWebhook(hook, made) : { secret: made.secret, ...(await createWebhook(of, made)) });
    } catch (error) {
      form.fail(error);
    }
  });
  const submit = (event) => {
    event.preventDefault();
    save.run();
  };
  const known = (types.data ?? []).map(({ type }) => type);
  return html`<form class="form" onSubmit=${submit}>
    <${TextField} form=${form} name="url" label="Address" type="url" required placeholder="https://your-server.com/webhook" autocapitalize="off"
      hint="For Discord and Slack, the URL of their incoming webhook." />
    <${TextField} form=${form} name="name" label="Name (optional)" maxlength="200" hint="What you call it, so that it is found among others." />
    <${SelectField} form=${form} name="format" label="Format" options=${formats} />
    ${values.format === "template" && html`<${Field} label="Template" problem=${form.problems.template}
      hint="MiniJinja over event; what it renders must be JSON.">
      ${(tied) => html`<textarea ...${tied} rows="4" spellcheck=${false} value=${values.template}
        onInput=${(event) => form.set("template", event.target.value)} />`}<//>`}
    <fieldset><legend>Events</legend><div class="form tight">
      <${Check} checked=${values.all} onChange=${(on) => form.set("all", on)}>All types<//>
      ${!values.all && html`<${Field} label="Only these types" problem=${form.problems.events}
        hint=${known.length ? `Separated by commas, such as ${known.slice(0, 3).join(", ")}` : "Separated by commas"}>
        ${(tied) => html`<input ...${tied} class="input mono" required autocomplete="off" autocapitalize="off" spellcheck=${false}
          value=${values.events} onInput=${(event) => form.set("events", event.target.value)} />`}<//>`}
    </div></fieldset>
    <${Field} label="Filter expression (optional)" problem=${form.problems.filter} hint="CEL over event, such as event.payload.value > 1000000.0">
      ${(tied) => html`<input ...${tied} class="input mono" autocomplete="off" autocapitalize="off" spellcheck=${false} value=${values.filter}
        onInput=${(event) => form.set("filter", event.target.value)} />`}<//>
    ${of.kind === "organization" && html`<${TextField} form=${form} name="sessionId" label="Session (optional)" hint="Only the events of this session." />`}
    ${of.kind === "organization" && !hook && html`<fieldset><legend>Signature</legend><div class="form tight">
      <${Check} checked=${values.signed} onChange=${(on) => form.set("signed", on)}>Sign each delivery<//>
      ${values.signed && html`<${Field} label="Secret (optional)" problem=${form.problems.secret}
        hint="Left empty, a random one is made, and shown when the webhook is there.">
        ${(tied) => html`<input ...${tied} type="password" autocomplete="new-password" value=${values.secret}
          onInput=${(event) => form.set("secret", event.target.value)} />`}<//>`}
    </div></fieldset>`}
    <${Preview} of=${of} values=${values} known=${known} />
    ${may("subscribe") && html`<${Rehearsal} of=${of} spec=${spec(of, values, hook)} />`}
    <details class="more" open=${["pathPrefix", "customHeaders", "retryPolicy", "batch", "rateLimit"].some((name) => form.problems[name])}>
      <summary>Order, batches, retries, headers</summary>
      <div class="form">
        <${Check} checked=${values.ordered} onChange=${(on) => form.set("ordered", on)}>One at a time, in order <span
          class="soft">(one that fails holds the later ones back)</span><//>
        <${Check} checked=${values.batched} onChange=${(on) => form.set("batched", on)}>Several events in one request<//>
        ${values.batched && html`<div class="row">
          <${TextField} form=${form} name="maxEvents" label="Events at most" type="number" min="1" />
          <${TextField} form=${form} name="maxWaitMs" label="Wait for more (ms)" type="number" min="0" /></div>`}
        <${Check} checked=${values.limited} onChange=${(on) => form.set("limited", on)}>Limit the rate<//>
        ${values.limited && html`<div class="row">
          <${TextField} form=${form} name="perSecond" label="Requests a second" type="number" min="0" step="any" />
          <${TextField} form=${form} name="burst" label="At once" type="number" min="1" /></div>`}
        <${SelectField} form=${form} name="policy" label="Retries"
          options=${[["", of.kind === "map" ? "As the server's settings say" : "Exponential, 2 s, 15 attempts"], ["exponential", "Exponential"], ["linear", "Linear"], ["constant", "Constant"]]} />
        ${values.policy && html`<div class="row">
          <${TextField} form=${form} name="delaySeconds" label="First wait (s)" type="number" min="0" />
          <${TextField} form=${form} name="attempts" label="Attempts in all" type="number" min="1" />
          <${TextField} form=${form} name="maxDelaySeconds" label="Longest wait (s)" type="number" min="1" /></div>`}
        <${TextField} form=${form} name="pathPrefix" label="Path prefix (optional)" hint="Only events whose payload has a path that begins so." />
        <${Field} label="Headers of your own (optional)" problem=${form.problems.customHeaders} hint="One a line, as Name: value.">
          ${(tied) => html`<textarea ...${tied} rows="2" spellcheck=${false} value=${values.customHeaders}
            onInput=${(event) => form.set("customHeaders", event.target.value)} />`}<//>
      </div>
    </details>
    ${form.trouble && html`<${Trouble} error=${form.trouble} />`}
    <footer><button type="button" class="button" onClick=${onClose}>Cancel</button>
      <button type="submit" class="button main" disabled=${save.busy}>${hook ? "Save" : "Create"}</button></footer>
  </form>`;
}

/** What would be sent for a sample, made by the server. */
function Preview({ of, values, known }) {
  const [type, setType] = useState("");
  const [shown, setShown] = useState(null);
  const [error, setError] = useState(null);
  const choices = useMemo(() => (values.all ? known : list(values.events)), [values.all, values.events, known.join()]);
  const chosen = choices.includes(type) ? type : (choices[0] ?? "");
  const template = values.format === "template" ? values.template : undefined;
  useEffect(() => {
    let here = true;
    const timer = setTimeout(async () => {
      try {
        const made = await previewWebhook(of, { format: values.format, ...(template === undefined ? {} : { template }) }, chosen);
        if (!here) return;
        setShown(made);
        setError(null);
      } catch (failure) {
        if (here) setError(failure);
      }
    }, PREVIEW_AFTER_MS);
    return () => {
      here = false;
      clearTimeout(timer);
    };
  }, [of.id, values.format, template, chosen]);
  return html`<section class="preview" aria-labelledby="preview-title">
    <header><h3 id="preview-title">What is sent</h3>
      ${choices.length > 1 && html`<label><span class="unseen">For the type</span>
        <select class="input" value=${chosen} onChange=${(event) => setType(event.target.value)}>
        ${choices.map((name) => html`<option key=${name} value=${name} selected=${name === chosen}>${name}</option>`)}</select></label>`}
    </header>
    ${error && html`<${Trouble} error=${(error.details?.errors ?? error.details)?.[0]?.message ?? error.message} />`}
    ${shown && html`<div class="code wrap">
      <pre tabindex="0" role="region" aria-label="Body of a sample" class=${error ? "stale" : ""}>${pretty(shown.body)}</pre></div>
      <details class="more"><summary>Its headers</summary><div class="code wrap">
        <pre tabindex="0" role="region" aria-label="Headers of a sample">
        ${Object.entries(shown.headers).map(([name, value]) => html`<span key=${name}>
        <span class="soft">${name}:</span> ${value}${"\n"}</span>`)}</pre></div></details>`}
    ${!shown && !error && html`<div class="code"><pre class="soft">…</pre></div>`}
  </section>`;
}

function pretty(text) {
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text;
  }
}
