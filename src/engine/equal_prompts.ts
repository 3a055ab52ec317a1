import type { Clock } from "../internal/clock.ts";
import { orAborted } from "../internal/or_aborted.ts";
import type { Generation } from "../client/types.ts";
import type { Affine, Beginnings } from "./prefix_affinity.ts";

/** Shorter prompts are computed sooner than they are waited for. */
const LEAST_TOKENS = 50;
const CHARACTERS_A_TOKEN = 4;
/** What a server takes for a token of a prompt: first guess, and the least and most of what is learnt. */
const MS_A_TOKEN = { first: 0.5, least: 0.01, most: 8 };
/** How the guess changes with a prompt that was found in the cache, and with one that was not. */
const AFTER_HIT = 0.95;
const AFTER_MISS = 2;
/** Waits as long as they may be that found nothing: this server keeps no cache. */
const MOST_IN_VAIN = 16;
/** Longest wait, unless the engine's options say another. */
export const EQUAL_PROMPTS_WAIT_MS = 500;

/** The first of equal prompts on a server, until it is answered. */
interface Lead {
  /** When the server probably has the prompt in its cache. */
  readonly cachedAt: number;
  /** What was guessed for a token. */
  readonly msAToken: number;
  readonly ended: Promise<void>;
}

/** What a server was sent, and how fast it seems. */
interface Sent {
  /** When it has probably computed all prompts so far. */
  computedAt: number;
  msAToken: number;
  /** Longest waits in a row that found nothing. */
  inVain: number;
  /** By their longest beginning. */
  readonly leads: Map<number, Lead>;
}

/** A prompt that may be sent; disposed when it was answered. */
export interface Turn extends Disposable {
  /** Tells what came, of which the next ones learn. */
  readonly answered: (sample: Pick<Generation, "promptTokens" | "cachedTokens">) => void;
}

/**
 * Lets the first of equal prompts go ahead. Those that reach a server in one moment are computed side
 * by side, each of them whole: none finds the others in the cache. So the others wait for as long as
 * the first is probably computed, or until it is answered; whether they found it then says how long
 * the next ones wait.
 */
export class EqualPrompts<Server extends WeakKey> {
  readonly #servers = new WeakMap<Server, Sent>();
  readonly #clock: Clock;
  readonly #mostMs: number;

  /** @param mostMs Longest wait; 0 for none. */
  constructor(clock: Clock, mostMs: number) {
    this.#clock = clock;
    this.#mostMs = mostMs;
  }

  /** Resolves when a prompt may be sent to a server. */
  async turn(
    server: Server,
    { prompt, session }: Affine,
    beginnings: Beginnings,
    signal: AbortSignal,
  ): Promise<Turn> {
    const tokens = prompt.length / (typeof prompt === "string" ? CHARACTERS_A_TOKEN : 1);
    // What is sent in a session is a dialog's, which goes on when its last turn was answered.
    if (this.#mostMs === 0 || tokens < LEAST_TOKENS || session !== undefined) return nothing;
    const sent = this.#sentTo(server);
    if (sent.inVain >= MOST_IN_VAIN) return nothing;
    const lead = sent.leads.get(beginnings.at(-1)!);
    if (lead === undefined) return this.#lead(sent, beginnings.at(-1)!, tokens);
    if (!await this.#untilCached(lead, signal)) return nothing;
    return { ...nothing, answered: (sample) => learn(sent, lead, sample) };
  }

  #sentTo(server: Server): Sent {
    const known = this.#servers.get(server);
    if (known !== undefined) return known;
    const sent: Sent = {
      computedAt: -Infinity,
      msAToken: MS_A_TOKEN.first,
      inVain: 0,
      leads: new Map(),
    };
    this.#servers.set(server, sent);
    return sent;
  }

  #lead(sent: Sent, key: number, tokens: number): Turn {
    const now = this.#clock.now();
    const { msAToken } = sent;
    sent.computedAt = Math.max(now, sent.computedAt) + tokens * msAToken;
    const ended = Promise.withResolvers<void>();
    const cachedAt = Math.min(sent.computedAt, now + this.#mostMs);
    sent.leads.set(key, { cachedAt, msAToken, ended: ended.promise });
    return {
      ...nothing,
      [Symbol.dispose]() {
        sent.leads.delete(key);
        ended.resolve();
      },
    };
  }

  /** Whether there was anything to wait for. */
  async #untilCached({ cachedAt, ended }: Lead, signal: AbortSignal): Promise<boolean> {
    const leftMs = cachedAt - this.#clock.now();
    if (leftMs <= 0) return false;
    signal.throwIfAborted();
    const { promise, resolve } = Promise.withResolvers<void>();
    const cancel = this.#clock.schedule(leftMs, resolve);
    try {
      await orAborted(Promise.race([promise, ended]), signal);
    } finally {
      cancel();
    }
    return true;
  }
}

const nothing: Turn = { answered() {}, [Symbol.dispose]() {} };

/** Of many that wait at once each tells of the guess that it waited by, so that they count as one. */
function learn(
  sent: Sent,
  { msAToken }: Lead,
  { promptTokens, cachedTokens }: Pick<Generation, "promptTokens" | "cachedTokens">,
): void {
  if (promptTokens === null || cachedTokens === null) return;
  if (cachedTokens >= promptTokens / 2) {
    sent.inVain = 0;
    sent.msAToken = Math.max(MS_A_TOKEN.least, Math.min(sent.msAToken, msAToken * AFTER_HIT));
    return;
  }
  if (msAToken === MS_A_TOKEN.most) sent.inVain++;
  sent.msAToken = Math.min(MS_A_TOKEN.most, Math.max(sent.msAToken, msAToken * AFTER_MISS));
}
