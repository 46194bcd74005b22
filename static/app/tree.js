// JSON as a tree that opens and closes. Long lists and long texts are shown in part until somebody asks.
import { html, useState } from "./html.js";
import { count, isTime, shortTime } from "./format.js";

const MEMBERS_FIRST = 100;
const TEXT_FIRST = 600;
const OPEN_DEPTH = 2;

/** @param value parsed JSON */
export const Tree = ({ value, label }) => html`<div class="tree" role="group" aria-label=${label}><${Node} value=${value} depth=${0} />
  </div>`;

function Node({ name, value, depth }) {
  const before = name === undefined ? null : html`<span class="name"><bdi>${name}</bdi></span>`;
  if (value === null || typeof value !== "object") return html`${before}<${Plain} value=${value} />${isTime(name ?? "", value) && html` <span class="soft">${shortTime(name, value)}</span>`}`;
  const list = Array.isArray(value);
  const size = list ? value.length : Object.keys(value).length;
  const [open, close] = list ? "[]" : "{}";
  if (size === 0) return html`${before}<span class="size">${open}${close}</span>`;
  return html`<${Branch} ...${{ before, value, size, depth }} shape=${open + close} />`;
}

function Branch({ before, value, size, shape, depth }) {
  const [open, setOpen] = useState(depth < OPEN_DEPTH && size <= MEMBERS_FIRST);
  const [shown, setShown] = useState(MEMBERS_FIRST);
  const members = open ? Object.entries(value).slice(0, shown) : [];
  return html`<details open=${open} onToggle=${(event) => { event.stopPropagation(); setOpen(event.target.open); }}>
    <summary>${before}<span class="size">${shape[0]} ${count(size)} ${shape[1]}</span></summary>
    ${open && html`<ul>
      ${members.map(([name, member]) => html`<li key=${name}><${Node} name=${name} value=${member} depth=${depth + 1} /></li>`)}
      ${size > shown && html`<li>
        <button type="button" class="button small" onClick=${() => setShown(shown * 4)}>Show more of ${count(size)}</button></li>`}
    </ul>`}
  </details>`;
}

function Plain({ value }) {
  const [whole, setWhole] = useState(false);
  const text = JSON.stringify(value);
  const kind = typeof value === "string" ? "string" : typeof value === "number" ? "number" : "word";
  if (whole || text.length <= TEXT_FIRST) return html`<span class=${kind}><bdi>${text}</bdi></span>`;
  return html`<span class=${kind}><bdi>${text.slice(0, TEXT_FIRST)}…</bdi></span> <button type="button" class="button small"
    onClick=${() => setWhole(true)}>Show all ${count(text.length)} characters</button>`;
}
