// The states of the run, for all tabs of a browser by one connection: a browser opens only six to one
// address, and each further tab would wait.
import { ask, askJson } from "./page.js";

const NAME = "sglang-rl live";
const LOST = "connection lost, trying again";
const PAUSE_MS = 1000;
/** A program that hangs, or a network that drops all, closes no connection: silence tells. */
const SILENT_MS = 10_000;

const sleep = () => new Promise((resolve) => setTimeout(resolve, PAUSE_MS));

/** Draws each state, of which one comes every so often, and tells how the connection is, for ever. */
export async function follow(everyMs, draw, tell) {
  const silentMs = Math.max(SILENT_MS, 3 * everyMs);
  // There only for pages of this machine or by https; else each state is a short question.
  if (navigator.locks === undefined) return await poll(silentMs, draw, tell);
  const channel = new BroadcastChannel(NAME);
  /** The last state, in the tab that reads. */
  let last = null;
  const show = (text) => {
    draw(JSON.parse(text));
    tell("live", false);
  };
  channel.onmessage = ({ data: { kind, text } }) => {
    if (kind === "state") show(text);
    else if (kind === "lost") tell(LOST, true);
    else if (last !== null) channel.postMessage({ kind: "state", text: last });
  };
  channel.postMessage({ kind: "hello" });
  for (;;) {
    // Whoever holds the lock reads for all; when that tab closes, or loses the connection, the next one.
    await navigator.locks.request(NAME, async () => {
      try {
        await read(silentMs, (text) => {
          last = text;
          show(text);
          channel.postMessage({ kind: "state", text });
        });
      } catch { /* It is tried again below. */ }
      last = null;
    });
    tell(LOST, true);
    channel.postMessage({ kind: "lost" });
    await sleep();
  }
}

async function read(silentMs, onState) {
  const silence = new AbortController();
  let timer;
  const wait = () => {
    clearTimeout(timer);
    timer = setTimeout(() => silence.abort(), silentMs);
  };
  try {
    wait();
    const answer = await ask("/api/live", { signal: silence.signal });
    if (!answer.ok) throw new Error((await answer.json()).error);
    let held = "";
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      wait();
      held += value;
      const events = held.split("\n\n");
      held = events.pop();
      for (const event of events) {
        const data = event.split("\n").find((line) => line.startsWith("data: "));
        if (data !== undefined) onState(data.slice(6));
      }
    }
  } finally {
    clearTimeout(timer);
  }
}

async function poll(silentMs, draw, tell) {
  for (;; await sleep()) {
    if (document.hidden) continue;
    try {
      draw(await askJson("/api/state", { signal: AbortSignal.timeout(silentMs) }));
      tell("live", false);
    } catch {
      tell(LOST, true);
    }
  }
}
