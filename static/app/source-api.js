// Sources: endpoints at which events come in from outside.
import { call, query } from "./api.js";

const at = (source, path = "") => `/api/webhooks/${encodeURIComponent(source.id)}${path}`;

export const listSources = async (channel) => (await call("GET", `/api/webhooks${query({ channel })}`)).data;
export const getSource = async (id) => (await call("GET", at({ id }))).endpoint;

const DAY_MS = 86_400_000;

/** Whether it believes nobody at the moment: what came last was refused, lately, and nothing was changed since. */
export function isRefusing({ refusedSenders: refused, updatedAt }) {
  return refused.inARow > 0 && refused.lastAt > updatedAt && Date.now() - Date.parse(refused.lastAt) < DAY_MS;
}

/** @returns `{ endpoint, secret }`: the secret only where the server made one, and only this once */
export const createSource = (body) => call("POST", "/api/webhooks", body);
export const changeSource = async (source, change) => (await call("PATCH", at(source), change)).endpoint;
export const deleteSource = (source) => call("DELETE", at(source));
export const rotateKey = (source, body) => call("POST", at(source, "/rotate-secret"), body);

export const deadLetters = (source, { after, limit } = {}) => call("GET", at(source, "/dead-letters") + query({ after, limit }));
export const deadLetter = async (source, n) => (await call("GET", at(source, `/dead-letters/${n}`))).data;
let presets;
/** The providers that the server knows by name, read once. */
export function sourcePresets() {
  presets ??= call("GET", "/api/source-presets").then(({ data }) => data);
  presets.catch(() => (presets = undefined));
  return presets;
}

/** @param edited `{ body }` to take in in its place, or nothing */
export const retryLetter = (source, n, edited = {}) => call("POST", at(source, `/dead-letters/${n}/retry`), edited);
export const removeLetter = (source, n) => call("DELETE", at(source, `/dead-letters/${n}`));
export const clearLetters = (source) => call("DELETE", at(source, "/dead-letters"));
