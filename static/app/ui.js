// The parts that views share: icons, fields, dialogs, messages, and what stands where something is missing.
import { html, useEffect, useId, useRef, useState } from "./html.js";
import { Store, useInterval, useStore } from "./store.js";
import { ago, dateTime } from "./format.js";

const ICONS = {
  overview: "M3 12h4l3-8 4 16 3-8h4",
  channels: "M4 6h16M4 12h16M4 18h10",
  webhooks: "M5 12h13m-5-6 6 6-6 6",
  sources: "M19 12H6m5-6-6 6 6 6",
  tokens: "M14.5 9.5a4.5 4.5 0 1 0-3.2 4.3L13 15.5h2v2h2v2h3v-3l-6-5.6a4.5 4.5 0 0 0 .5-1.4M8.5 9.5h.01",
  system: "M12 8v5m0 3h.01M10.3 4 2.8 17.2A2 2 0 0 0 4.5 20h15a2 2 0 0 0 1.7-2.8L13.7 4a2 2 0 0 0-3.4 0Z",
  close: "m6 6 12 12M18 6 6 18",
  copy: "M9 9h10v11H9zM15 9V4H5v11h4",
  plus: "M12 5v14M5 12h14",
  pause: "M9 6v12M15 6v12",
  play: "M8 5.5v13l10-6.5z",
  up: "M12 19V5m-6 6 6-6 6 6",
  search: "M11 4a7 7 0 1 0 0 14 7 7 0 0 0 0-14Zm5 12 4.5 4.5",
  sun: "M12 8a4 4 0 1 0 0 8 4 4 0 0 0 0-8ZM12 3v1.5M12 19.5V21M4.2 4.2l1.1 1.1M18.7 18.7l1.1 1.1M3 12h1.5M19.5 12H21M4.2 19.8l1.1-1.1M18.7 5.3l1.1-1.1",
  moon: "M20 14.5A8 8 0 0 1 9.5 4 8 8 0 1 0 20 14.5Z",
  auto: "M4 5h16v11H4zM9 20h6",
  leave: "M14 4h5v16h-5M4 12h11m-4-4 4 4-4 4",
  done: "m5 12.5 4.5 4.5L19 7.5",
};

export const Icon = ({ name }) => html`<svg class="icon" viewBox="0 0 24 24" aria-hidden="true"><path d=${ICONS[name]} /></svg>`;

export const Logo = () => html`<svg class="logo" viewBox="0 0 32 32" aria-hidden="true">
  <rect width="32" height="32" rx="8" /><path d="M15 11a7 7 0 0 1 0 10M20 7a13 13 0 0 1 0 18" /><circle cx="9.5" cy="16" r="2.5" />
</svg>`;

// ---- fields ----------------------------------------------------------------------------------------------------

/** A labelled control. `children` makes the control from the attributes that tie it to label, hint and problem. */
export function Field({ label, hint, problem, children }) {
  const id = useId();
  const described = [hint && `${id}-hint`, problem && `${id}-problem`].filter(Boolean).join(" ");
  const attributes = { id, class: "input", "aria-describedby": described || undefined, "aria-invalid": problem ? "true" : undefined };
  return html`<div class="field">
    <label for=${id}>${label}</label>
    ${children(attributes)}
    ${hint && html`<p class="hint" id=${`${id}-hint`}>${hint}</p>`}
    ${problem && html`<p class="problem" id=${`${id}-problem`}>${problem}</p>`}
  </div>`;
}

/** A text field bound to one name of a form's state. */
export function TextField({ form, name, label, hint, ...attributes }) {
  return html`<${Field} label=${label} hint=${hint} problem=${form.problems[name]}>
    ${(tied) => html`<input ...${tied} autocomplete="off" spellcheck=${false} ...${attributes} value=${form.values[name] ?? ""}
      onInput=${(event) => form.set(name, event.target.value)} />`}
  <//>`;
}

export function SelectField({ form, name, label, hint, options }) {
  return html`<${Field} label=${label} hint=${hint} problem=${form.problems[name]}>
    ${(tied) => html`<select ...${tied} value=${form.values[name]} onChange=${(event) => form.set(name, event.target.value)}>
      ${options.map(([value, text]) => html`<option key=${value} value=${value} selected=${value === form.values[name]}>${text}</option>`)}
    </select>`}
  <//>`;
}

export function Check({ checked, onChange, children, disabled }) {
  const id = useId();
  return html`<div class="check">
    <input type="checkbox" id=${id} checked=${checked} disabled=${disabled} onChange=${(event) => onChange(event.target.checked)} />
    <label for=${id}>${children}</label></div>`;
}

/**
 * What a `details` element takes to be a picker: it stays open while several are chosen, and closes when somebody points
 * elsewhere or presses Escape.
 */
export function usePicker() {
  const ref = useRef(null);
  useEffect(() => {
    const away = (event) => ref.current?.open && !ref.current.contains(event.target) && (ref.current.open = false);
    addEventListener("pointerdown", away);
    return () => removeEventListener("pointerdown", away);
  }, []);
  const onKeyDown = (event) => {
    if (event.key !== "Escape") return;
    ref.current.open = false;
    ref.current.querySelector("summary").focus();
  };
  return { ref, onKeyDown };
}

/** The values of a form, and what the server said is wrong with which of them. */
export function useForm(initial) {
  const [values, setValues] = useState(initial);
  const [error, setError] = useState(null);
  const known = Object.keys(values);
  const problems = {};
  const rest = [];
  for (const { field, message } of fieldsOf(error)) {
    const name = [field, camel(field)].find((name) => known.includes(name));
    if (name) problems[name] = sentence(message);
    else rest.push(`${field}: ${message}`);
  }
  return {
    values,
    problems,
    /** What belongs to no field. */
    trouble: error && (rest.length || !Object.keys(problems).length) ? (rest.length ? rest.join("; ") : error.message) : null,
    set: (name, value) => setValues((before) => ({ ...before, [name]: value })),
    setAll: setValues,
    fail: setError,
  };
}

const camel = (name) => String(name).replace(/_([a-z])/g, (_, letter) => letter.toUpperCase());
const sentence = (text) => text.charAt(0).toUpperCase() + text.slice(1);

/** The fields that an error names, in either form in which the server names them. */
function fieldsOf(error) {
  const details = error?.details;
  if (Array.isArray(details)) return details.filter((detail) => detail?.field);
  return Array.isArray(details?.errors) ? details.errors.filter((detail) => detail?.field) : [];
}

// ---- dialogs and messages --------------------------------------------------------------------------------------

/** A modal dialog. The browser keeps the focus in it and gives it back; Escape closes it. */
export function Dialog({ title, onClose, wide, children }) {
  const dialog = useRef(null);
  const id = useId();
  useEffect(() => {
    const opener = document.activeElement;
    dialog.current.showModal();
    return () => opener?.isConnected && opener.focus();
  }, []);
  return html`<dialog ref=${dialog} class=${wide ? "wide" : ""} aria-labelledby=${id} onCancel=${(event) => { event.preventDefault(); onClose(); }}>
    <header><h2 id=${id}>${title}</h2><button type="button" class="close" aria-label="Close" onClick=${onClose}><${Icon} name="close" />
      </button></header>
    <div class="body">${children}</div>
  </dialog>`;
}

/** Asks before something that cannot be taken back. `word`: what has to be typed. */
export function Confirm({ title, action, busy, error, onConfirm, onClose, word, children }) {
  const [typed, setTyped] = useState("");
  const submit = (event) => {
    event.preventDefault();
    onConfirm();
  };
  return html`<${Dialog} title=${title} onClose=${onClose}>
    <form class="form" onSubmit=${submit}>
      <div>${children}</div>
      ${word && html`<${Field} label=${`Type ${word} to confirm`}>
        ${(tied) => html`<input ...${tied} autocomplete="off" autocapitalize="off" spellcheck=${false} value=${typed}
          onInput=${(event) => setTyped(event.target.value)} />`}
      <//>`}
      ${error && html`<${Trouble} error=${error} />`}
      <footer>
        <button type="button" class="button" onClick=${onClose}>Cancel</button>
        <button type="submit" class="button bad" disabled=${busy || (word && typed !== word)}>${action}</button>
      </footer>
    </form>
  <//>`;
}

const messages = new Store([]);
let messageNo = 0;

/** Says something for a few seconds. */
export function toast(text, kind = "") {
  const message = { no: ++messageNo, text, kind };
  messages.set([...messages.value.slice(-3), message]);
  setTimeout(() => messages.set(messages.value.filter((other) => other !== message)), kind === "bad" ? 9000 : 5000);
}

export function Toasts() {
  return html`<div class="toasts" role="status" aria-live="polite">
    ${useStore(messages).map((message) => html`<p key=${message.no} class=${`toast ${message.kind}`}>${message.text}</p>`)}
  </div>`;
}

// ---- what is missing, wrong or on its way ----------------------------------------------------------------------

export function Empty({ icon, title, children, action }) {
  return html`<div class="empty">${icon && html`<${Icon} name=${icon} />`}<h2>${title}</h2><p>${children}</p>${action}</div>`;
}

export function Trouble({ error, onRetry }) {
  const text = typeof error === "string" ? error : error.message;
  return html`<div class="trouble" role="alert"><p>${text}</p>
    ${onRetry && html`<button type="button" class="button small" onClick=${() => onRetry()}>Try again</button>`}</div>`;
}

export const Bones = ({ label = "Loading" }) => html`<div class="bones" role="status"><span /><span /><span /><p class="unseen">${label}</p>
  </div>`;

/** The states of a resource: bones first, trouble when it failed, else what `children` makes of the data.
 * @param head stands above while there is no data, where the data brings the head of the page along */
export function Loaded({ of, head, children }) {
  const { data, error, reload } = of;
  if (error && data === undefined) return html`${head}<div class="card padded"><${Trouble} error=${error} onRetry=${reload} /></div>`;
  if (data === undefined) return html`${head}<div class="card"><${Bones} /></div>`;
  return html`<div class="stack">${error && html`<${Trouble} error=${error} onRetry=${reload} />`}${children(data)}</div>`;
}

// ---- small things ----------------------------------------------------------------------------------------------

export function Head({ title, crumbs, children, below }) {
  return html`<header class="head">
    <div>
      ${crumbs && html`<nav class="crumbs" aria-label="Where you are">
        ${crumbs.map(([text, href]) => html`<a key=${href} href=${href}>${text}</a><span aria-hidden="true" class="soft">/</span>`)}</nav>`}
      <h1 class="anywhere" tabindex="-1">${title}</h1>
      ${below}
    </div>
    ${children && html`<div class="buttons">${children}</div>`}
  </header>`;
}

/** "3 min ago", kept right while it stands there; with `plain` only how long, as after "for". */
export function Ago({ iso, none = "never", plain }) {
  const [, tick] = useState(0);
  useInterval(() => tick((n) => n + 1), 10_000, Boolean(iso));
  if (!iso) return html`<span class="soft">${none}</span>`;
  return html`<time datetime=${iso} title=${dateTime(iso)}>${plain ? ago(iso).replace(/ ago$/, "").replace("just now", "a moment") : ago(iso)}</time>`;
}

export async function copy(text, what = "Copied") {
  try {
    await navigator.clipboard.writeText(text);
    toast(what);
  } catch {
    toast("The browser does not allow copying here; select the text instead", "bad");
  }
}

export function Code({ text, label = "Code", wrap }) {
  return html`<div class=${`code ${wrap ? "wrap" : ""}`}>
    <pre tabindex="0" role="region" aria-label=${label}>${text}</pre>
    <button type="button" class="button small" onClick=${() => copy(text)}><${Icon} name="copy" />Copy</button>
  </div>`;
}

/** Something that is shown once. */
export function Secret({ text, children }) {
  return html`<div class="secret"><p>${children}</p><${Code} text=${text} label="Secret" wrap /></div>`;
}

export function Segments({ label, value, options, onChange }) {
  return html`<div class="segments" role="group" aria-label=${label}>
    ${options.map(([key, text]) => html`<button type="button" key=${key} aria-pressed=${String(key === value)}
      onClick=${() => onChange(key)}>${text}</button>`)}
  </div>`;
}

export const Badge = ({ kind = "", children }) => html`<span class=${`badge ${kind}`}>${children}</span>`;

export function StreamState({ state, text }) {
  return html`<p class="state" role="status" data-state=${state}>${text}</p>`;
}
