// What a source refused: why, as it was sent, and a way to take it in after all.
import { html, useState } from "./html.js";
import { bytes, dateTime, plural } from "./format.js";
import { useAction, useInterval, useResource } from "./store.js";
import { Ago, Bones, Confirm, Empty, Trouble, toast } from "./ui.js";
import { clearLetters, deadLetter, deadLetters, removeLetter, retryLetter } from "./source-api.js";

const REFRESH_MS = 10_000;
const PAGE = 30;

export function Letters({ source, onChanged }) {
  const first = useResource(() => deadLetters(source, { limit: PAGE }), [source.id]);
  const [more, setMore] = useState({ data: [], next: undefined });
  const [open, setOpen] = useState(null);
  const [clearing, setClearing] = useState(false);
  useInterval(first.reload, REFRESH_MS, more.data.length === 0);
  const reload = () => {
    setMore({ data: [], next: undefined });
    first.reload();
    onChanged();
  };
  const older = useAction(async () => {
    const page = await deadLetters(source, { limit: PAGE, after: more.next ?? first.data.next });
    setMore((before) => ({ data: [...before.data, ...page.data], next: page.next }));
  });
  const clear = useAction(async () => {
    await clearLetters(source);
    setClearing(false);
    reload();
  });
  const rows = [...(first.data?.data ?? []), ...more.data];
  const next = more.data.length ? more.next : first.data?.next;
  return html`<section class="card" aria-labelledby="letters">
    <header><h2 id="letters">What was refused</h2>
      ${rows.length > 0 && html`<button type="button" class="button small bad" onClick=${() => setClearing(true)}>Remove all</button>`}</header>
    ${first.error && html`<div class="padded-row"><${Trouble} error=${first.error} onRetry=${first.reload} /></div>`}
    ${first.data === undefined && !first.error && html`<${Bones} />`}
    ${first.data && rows.length === 0 && html`<${Empty} icon="done"
      title=${source.refusedSenders.requests > 0 ? "No dead letters" : "Nothing was refused"}>${source.refusedSenders.requests > 0 && `${plural(source.refusedSenders.requests, "request")} whose sender could not be verified ${source.refusedSenders.requests === 1 ? "was" : "were"} counted and not kept. `}What a sender proved to be its own, but whose content could not be taken, is kept here with the reason.<//>`}
    ${rows.length > 0 && html`<ul class="list">${rows.map((letter) => html`<li key=${letter.n} class="letter">
      <details open=${open === letter.n} onToggle=${(event) => event.target.open !== (open === letter.n) && setOpen(event.target.open ? letter.n : null)}>
        <summary><span class="clip">${letter.reason}</span><span class="soft small tabular">${bytes(letter.bytes)}</span>
          <span class="soft small when"><${Ago} iso=${letter.receivedAt} /></span></summary>
        ${open === letter.n && html`<${Letter} source=${source} letter=${letter} onChanged=${reload} />`}
      </details>
    </li>`)}</ul>`}
    ${next && html`<div class="past">
      ${older.error && html`<${Trouble} error=${older.error} />`}<button type="button" class="button small" disabled=${older.busy}
        onClick=${older.run}>More</button></div>`}
    ${clearing && html`<${Confirm} title="Remove all dead letters?" action="Remove" busy=${clear.busy} error=${clear.error}
      onConfirm=${clear.run} onClose=${() => setClearing(false)}><p>What was refused cannot be taken in later.</p><//>`}
  </section>`;
}

function Letter({ source, letter, onChanged }) {
  const found = useResource(() => deadLetter(source, letter.n), [letter.n]);
  // null: as it was sent
  const [body, setBody] = useState(null);
  // the summary has said the reason already
  const told = letter.details.filter(({ message }) => !letter.reason.includes(message));
  const retry = useAction(async () => {
    const { accepted } = await retryLetter(source, letter.n, body === null ? {} : { body });
    toast(accepted === undefined ? "It is taken in" : `${plural(accepted, "event")} taken in`);
    onChanged();
  });
  const remove = useAction(async () => {
    await removeLetter(source, letter.n);
    onChanged();
  });
  return html`<div class="detail">
    ${told.length > 0 && html`<ul class="detail-list">
      ${told.map((detail, n) => html`<li key=${n}>${detail.index !== null && `event ${detail.index}, `}<code>${detail.field}</code>: ${detail.message}</li>`)}</ul>`}
    <p class="soft small">Received ${dateTime(letter.receivedAt)}${letter.retries > 0 ? `, tried again ${plural(letter.retries, "time")}` : ""}${letter.truncated ? ". Only its beginning is kept, so it cannot be taken in later." : "."}</p>
    ${found.error && html`<${Trouble} error=${found.error} onRetry=${found.reload} />`}
    ${found.data && found.data.headers.length > 0 && html`<details class="more"><summary>${plural(found.data.headers.length, "header")}</summary>
      <div class="code wrap"><pre tabindex="0" role="region" aria-label="Headers as they came">${found.data.headers.map(([name, value], n) => html`<span key=${n}><span class="soft">${name}:</span> ${value}${"\n"}</span>`)}</pre></div></details>`}
    ${found.data && (body === null ? html`<div class="code wrap"><pre tabindex="0" role="region" aria-label="Body as it was sent">${found.data.body}</pre></div>`
    : html`<label><span class="small soft">What is taken in instead of the body</span>
        <textarea class="input" rows="8" spellcheck=${false} value=${body} onInput=${(event) => setBody(event.target.value)} /></label>`)}
    ${(retry.error ?? remove.error) && html`<${Trouble} error=${retry.error ?? remove.error} />`}
    <div class="buttons">
      <button type="button" class="button small" disabled=${retry.busy || (letter.truncated && body === null)} onClick=${retry.run}>${body === null ? "Try again" : "Take this in"}</button>
      ${found.data && (body === null ? html`<button type="button" class="button small" onClick=${() => setBody(found.data.body)}>Edit</button>`
      : html`<button type="button" class="button small" onClick=${() => setBody(null)}>Do not edit</button>`)}
      <button type="button" class="button small bad" disabled=${remove.busy} onClick=${remove.run}>Remove</button>
    </div>
  </div>`;
}
