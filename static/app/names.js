// The names by which people know what the server tells of by an id: channels and tokens.
import { html, useMemo } from "./html.js";
import { channelName, channels, may, tokens } from "./api.js";
import { to } from "./route.js";
import { useResource } from "./store.js";

/** The names of channels, by how the server names them, and of tokens, by their ids. */
export function useNames() {
  const { data } = useResource(async () => {
    const [of, all] = await Promise.all([channels(), may("manage") ? tokens() : []]);
    return [...of.map((channel) => [channelName(channel), channel.name]), ...all.filter(({ name }) => name).map(({ id, name }) => [id, name])];
  }, []);
  return useMemo(() => new Map(data ?? []), [data]);
}

/** Who holds a credential, as the server names them: the name of a token, with the way to it. */
export function Holder({ id, names }) {
  if (id === "admin") return "the admin";
  if (!id.startsWith("tok_")) return html`<span class="anywhere">${id.replace(/^jwt:/, "JWT of ")}</span>`;
  return html`<a class="anywhere" href=${to(["tokens"], { find: id })}><bdi>${names.get(id) ?? id}</bdi></a>`;
}
