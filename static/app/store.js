// State that outlives a view: a value, who looks at it, and hooks to look.
import { useCallback, useEffect, useRef, useState } from "./html.js";

/** A value and its listeners. */
export class Store {
  #value;
  #listeners = new Set();

  constructor(value) {
    this.#value = value;
  }

  get value() {
    return this.#value;
  }

  set(value) {
    if (value === this.#value) return;
    this.#value = value;
    for (const listener of [...this.#listeners]) listener(value);
  }

  /** Calls the listener on every change; gives what ends that. */
  listen(listener) {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }
}

export function useStore(store) {
  const [value, set] = useState(store.value);
  useEffect(() => {
    set(store.value);
    return store.listen(set);
  }, [store]);
  return value;
}

const AGAIN_MS = 5000;

/** What `load` gives: `{ data, error, loading, reload }`. A reload keeps what is shown until the new is there; what
 * was asked for before does not overwrite what was asked for later. What failed and may pass is tried again. */
export function useResource(load, deps) {
  const [state, set] = useState({ data: undefined, error: null, loading: true });
  const latest = useRef(0);
  const reload = useCallback(async () => {
    const mine = ++latest.current;
    set((before) => ({ ...before, loading: true }));
    try {
      const data = await load();
      if (mine === latest.current) set({ data, error: null, loading: false });
    } catch (error) {
      if (mine === latest.current) set((before) => ({ ...before, error, loading: false }));
    }
  }, deps);
  useEffect(() => {
    set({ data: undefined, error: null, loading: true });
    reload();
    return () => {
      latest.current += 1;
    };
  }, deps);
  useEffect(() => {
    if (!state.error || state.error.final) return undefined;
    const timer = setTimeout(reload, Math.max(AGAIN_MS, state.error.retryAfterMs ?? 0));
    return () => clearTimeout(timer);
  }, [state.error, reload]);
  return { ...state, reload };
}

/** Something that a person does and that takes a while: `{ run, busy, error, clear }`. */
export function useAction(act) {
  const [state, set] = useState({ busy: false, error: null });
  const shown = useRef(true);
  useEffect(() => () => void (shown.current = false), []);
  const settle = (next) => shown.current && set(next);
  const run = async (...given) => {
    settle({ busy: true, error: null });
    try {
      const result = await act(...given);
      settle({ busy: false, error: null });
      return result;
    } catch (error) {
      settle({ busy: false, error });
      return undefined;
    }
  };
  return { ...state, run, clear: () => settle({ busy: false, error: null }) };
}

/** Calls `tick` every `ms` while the page is visible, and once when it becomes visible again. */
export function useInterval(tick, ms, active = true) {
  const latest = useRef(tick);
  latest.current = tick;
  useEffect(() => {
    if (!active) return undefined;
    const call = () => document.hidden || latest.current();
    const timer = setInterval(call, ms);
    document.addEventListener("visibilitychange", call);
    return () => {
      clearInterval(timer);
      document.removeEventListener("visibilitychange", call);
    };
  }, [ms, active]);
}
