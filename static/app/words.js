// What somebody types to find events: an expression as it is, else words.

const WORDS_MAX = 12;
/** Other ids than the word itself that are looked for, because something of that name has them. */
const IDS_MAX = 8;

/** Only ASCII, as the server's `lowerAscii` does. */
const lower = (text) => text.replace(/[A-Z]+/g, (capitals) => capitals.toLowerCase());

export const isExpression = (typed) => /\bevent\s*[.[]/.test(typed);

/**
 * The filter expression for what was typed. Each word, or "several words" in quotes, has to stand in the payload, the type or the id.
 * @param named ids, by the names that people know them by
 */
export function expressionOf(typed, named) {
  const text = typed?.trim() ?? "";
  if (!text || isExpression(text)) return text;
  const words = (text.toWellFormed?.() ?? text).match(/"[^"]+"|\S+/g).slice(0, WORDS_MAX);
  return words.map((word) => word.replace(/^"(.+)"$/, "$1")).map((word) => `(${conditions(word, named).join(" || ")})`).join(" && ");
}

function conditions(word, named) {
  const wanted = lower(word);
  const escaped = JSON.stringify(wanted).slice(1, -1);
  // in the text of a payload a quotation mark and a backslash are escaped, unless the mark is one of the JSON itself
  const inText = [...new Set([wanted, escaped])].map((part) => `event.text.lowerAscii().contains(${JSON.stringify(part)})`);
  const ids = [...(named ?? [])].filter(([name]) => lower(name).includes(wanted)).map(([, id]) => id).slice(0, IDS_MAX);
  return [
    ...inText,
    ...ids.map((id) => `event.text.contains(${JSON.stringify(id)})`),
    ...["event.type", "event.id.lowerAscii()"].map((place) => `${place}.contains(${JSON.stringify(wanted)})`),
  ];
}

/** Whether every word that was typed occurs in one of these texts. */
export function occurs(find, texts) {
  const all = texts.join(" ").toLowerCase();
  return find.toLowerCase().split(/\s+/).every((word) => all.includes(word));
}
