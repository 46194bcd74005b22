// Sends events of the past again: count first, then start, then watch.
import { html, useEffect, useRef, useState } from "./html.js";
import { count, plural } from "./format.js";
import { useAction } from "./store.js";
import { Check, Dialog, SelectField, TextField, Trouble, useForm } from "./ui.js";
import { replay, replayJob } from "./webhook-api.js";

const LOOK_MS = 1000;
const HOUR_MS = 3_600_000;

/** The value of a field of date and time, in the person's own time zone. */
const local = (ms) => new Date(ms - new Date(ms).getTimezoneOffset() * 60_000).toISOString().slice(0, 16);

/** @param failed begins with what failed */
export function Replay({ hook, failed, onClose, onDone }) {
  const form = useForm({ from: failed ? "dead" : "time", since: failed ? "" : local(Date.now() - HOUR_MS), after: "", until: "", events: "", dead: false });
  const [counted, setCounted] = useState(null);
  const [job, setJob] = useState(null);
  const { values } = form;
  const title = failed ? "Send again what failed" : "Replay";

  const range = () => ({
    ...(values.from === "id" ? { after: values.after.trim() } : values.since ? { since: new Date(values.since).toISOString() } : {}),
    ...(values.until ? { until: new Date(values.until).toISOString() } : {}),
    ...(values.events.trim() ? { events: values.events.split(/[,\s]+/).filter(Boolean) } : {}),
    ...(values.dead || values.from === "dead" ? { status: "dead" } : {}),
  });
  const newest = useRef(0);
  const ask = useAction(async (dryRun) => {
    const mine = ++newest.current;
    try {
      const answer = await replay(hook, { ...range(), dryRun });
      form.fail(null);
      if (mine !== newest.current) return;
      if (dryRun) setCounted(answer.count);
      else setJob(answer);
    } catch (error) {
      form.fail(error);
    }
  });
  const givenUp = values.from === "dead";
  // what was counted belongs to what was asked for; what was given up is counted quickly, so that nobody has to ask for it
  useEffect(() => {
    setCounted(null);
    if (givenUp && !job) ask.run(true);
  }, [JSON.stringify(values)]);

  useEffect(() => {
    if (!job || job.state === "done") return undefined;
    const timer = setTimeout(() => replayJob(hook, job.id).then((now) => {
      setJob(now);
      if (now.state === "done") onDone();
    }, form.fail), LOOK_MS);
    return () => clearTimeout(timer);
  }, [job]);

  if (job) {
    const sent = job.delivered + job.failed;
    return html`<${Dialog} title=${title} onClose=${onClose}>
      <div role="status" class="form">
        <p><strong>${job.state === "done" ? "Done." : "Running…"}</strong> ${count(job.delivered)} delivered, ${count(job.failed)} failed${job.skipped ? `, ${count(job.skipped)} skipped` : ""}${job.lost ? `, ${count(job.lost)} lost to retention` : ""}.</p>
        <progress class="progress" aria-label="Replay" ...${counted ? { value: Math.min(sent, counted), max: counted } : job.state === "done" ? { value: 1, max: 1 } : {}} />
        ${job.state !== "done" && html`<p class="soft small">It goes on when you close this, and over a restart of the server.</p>`}
      </div>
      ${form.trouble && html`<${Trouble} error=${form.trouble} />`}
      <footer><button type="button" class="button main" onClick=${onClose}>Close</button></footer>
    <//>`;
  }
  const submit = (event) => {
    event.preventDefault();
    ask.run(!(givenUp && counted));
  };
  return html`<${Dialog} title=${title} onClose=${onClose}>
    <form class="form" onSubmit=${submit}>
      <p class="soft">${values.from === "dead" ? "Sends again what was given up after its last attempt." : "Sends events of the past again, within the filter of the webhook. Receivers that drop what they have seen take each only once."}</p>
      <${SelectField} form=${form} name="from" label="Which"
        options=${[["time", "Everything since a time"], ["id", "Everything after an event"], ["dead", "Everything that was given up"]]} />
      <div class="row">
        ${values.from === "time" && html`<${TextField} form=${form} name="since" label="Since" type="datetime-local" required />`}
        ${values.from === "id" && html`<${TextField} form=${form} name="after" label="After the event with the id" required class="input mono" />`}
        ${values.from === "dead" && html`<${TextField} form=${form} name="since" label="Since (optional)" type="datetime-local" />`}
        <${TextField} form=${form} name="until" label="Until (optional)" type="datetime-local" />
      </div>
      ${values.from !== "dead" && html`<${TextField} form=${form} name="events" label="Only these types (optional)" hint="Separated by commas" />
        <${Check} checked=${values.dead} onChange=${(on) => form.set("dead", on)}>Only deliveries that were given up<//>`}
      ${form.trouble && html`<${Trouble} error=${form.trouble} />`}
      <p role="status" class="counted">
        ${givenUp && counted === null && ask.busy && "Counting…"}${counted !== null && (counted === 0 ? (values.from === "dead" ? "Nothing to send: nothing was given up since then." : "Nothing to send: no event is in that range.") : html`<strong>${values.from === "dead" ? plural(counted, "delivery", "deliveries") : plural(counted, "event")}</strong> would be sent.`)}</p>
      <footer>
        <button type="button" class="button" onClick=${onClose}>Cancel</button>
        ${!givenUp && html`<button type="submit" class="button" disabled=${ask.busy}>Count</button>`}
        <button type="button" class="button main" disabled=${ask.busy || !counted}
          onClick=${() => ask.run(false)}>Send${counted ? ` ${givenUp ? plural(counted, "delivery", "deliveries") : plural(counted, "event")}` : ""}</button>
      </footer>
    </form>
  <//>`;
}
