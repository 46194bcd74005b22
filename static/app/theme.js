// Light, dark, or as the system has it. Kept over visits: it says nothing about anybody.
import { html, useState } from "./html.js";
import { Icon } from "./ui.js";

const KEY = "stentor.theme";
const NEXT = { auto: "light", light: "dark", dark: "auto" };
const WORDS = { auto: ["auto", "Colours follow the system"], light: ["sun", "Light colours"], dark: ["moon", "Dark colours"] };

function apply(theme) {
  if (theme === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
}

const kept = () => (localStorage.getItem(KEY) in NEXT ? localStorage.getItem(KEY) : "auto");
apply(kept());

export function Theme() {
  const [theme, setTheme] = useState(kept);
  const [icon, words] = WORDS[theme];
  const turn = () => {
    const next = NEXT[theme];
    localStorage.setItem(KEY, next);
    apply(next);
    setTheme(next);
  };
  return html`<button type="button" class="button small" aria-label=${`${words}. Change`} title=${words} onClick=${turn}>
    <${Icon} name=${icon} /></button>`;
}
