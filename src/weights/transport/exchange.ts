import type { CollectiveGroup } from "../../collective/group.ts";
import { SGLangError } from "../../errors.ts";
import { sleep, withDeadline } from "../../internal/deadline.ts";
import { asError } from "../../internal/thrown.ts";
import { onOne, ServerFailure } from "../fleet/on_all.ts";
import type { TransportServer, UpdateQueue } from "./transport.ts";

/** HTTP calls that make servers enter a collective, and our side of it. */
export interface Exchange {
  /** Name of the step. */
  readonly phase: string;
  /** Longest wait for both sides. */
  readonly timeoutMs: number;
  /** The servers, all of which are called. */
  readonly servers: readonly TransportServer[];
  /** The group. */
  readonly group: Pick<CollectiveGroup, "abort" | "outlivesUs">;
  /** Calls one server. */
  readonly post: (server: TransportServer, signal: AbortSignal) => Promise<void>;
  /** Our side; `queued` is called once it is sure to be done, whatever becomes of this process. */
  readonly collective: (signal: AbortSignal, queued: () => void) => Promise<void>;
  /** The caller's cancellation. */
  readonly signal: AbortSignal | undefined;
  /** Runs after a failure, while the servers may still answer; ends with its signal. */
  readonly afterAbort?: ((signal: AbortSignal) => Promise<void>) | undefined;
  /** How long servers that were let go have for an answer that tells what became of them. */
  readonly lastWordsMs: number;
  /** When servers are called, beside others of which they are told; default at once. */
  readonly queue?: UpdateQueue | undefined;
}

/** How long our own side has to let go. */
const RELEASE_MS = 3000;
/** How long an answer that explains a broken collective may be late. */
const EXPLANATION_MS = 500;

/**
 * Runs the HTTP calls and the collective against each other, because either can be the first to
 * know of a failure and the other would then wait for good. At the first failure, the deadline or
 * the caller's cancellation the group is aborted; the servers, let go by that, get a moment to
 * answer, so that it is known what they hold.
 */
export async function exchange(options: Exchange): Promise<void> {
  const { phase, timeoutMs, servers, group, signal, lastWordsMs } = options;
  // The calls outlive a failure for a moment, so they hang on a signal of their own.
  const cutPosts = new AbortController();
  const cutCollective = new AbortController();
  const call = { phase, timeoutMs: timeoutMs + lastWordsMs + RELEASE_MS, signal: cutPosts.signal };
  const { promise: queued, resolve: onQueued } = Promise.withResolvers<void>();
  if (!group.outlivesUs) onQueued();
  // A server that joins a collective which nobody would end for us could wait in it for good.
  const posts = servers.map((server) =>
    onOne(server, call, async (...args) => {
      await queued;
      await options.queue?.turn;
      await options.post(...args);
    })
  );
  const collective = options.collective(cutCollective.signal, onQueued);
  collective.then(onQueued, onQueued);
  options.queue?.asked();
  Promise.all(posts).then(() => options.queue?.answered(), () => {});
  const wait = { phase, timeoutMs, signal, peer: servers.map(({ url }) => url).join(", ") };
  try {
    await withDeadline(wait, () => Promise.all([...posts, collective]));
  } catch (error) {
    const explanation = await explain(error, posts);
    const reason = asError(unwrapped(explanation));
    const aborted = group.abort(reason);
    cutCollective.abort(reason);
    const released = Promise.allSettled([collective, aborted]);
    const afterwards = aborted.then(() => options.afterAbort?.(cutPosts.signal));
    await within(lastWordsMs, Promise.allSettled(posts));
    cutPosts.abort(reason);
    await Promise.allSettled(posts);
    await within(RELEASE_MS, Promise.allSettled([released, afterwards]));
    throw explanation;
  }
}

/** A server's own words say more than a broken connection, and may come a moment later. */
async function explain(error: unknown, posts: readonly Promise<void>[]): Promise<unknown> {
  if (error instanceof ServerFailure) return error;
  if (error instanceof SGLangError && ["aborted", "timeout", "native"].includes(error.code)) {
    return error;
  }
  const failures = posts.map((post) =>
    post.then(() => Promise.reject(new Error("this server did not fail")), (failure) => failure)
  );
  const words = Promise.any(failures).catch(() => undefined);
  return await within(EXPLANATION_MS, words) ?? error;
}

/** The result of `work`, or `undefined` when it takes longer. */
async function within<T>(timeoutMs: number, work: Promise<T>): Promise<T | undefined> {
  const stop = new AbortController();
  const late = sleep(timeoutMs, { signal: stop.signal }).then(() => undefined, () => undefined);
  try {
    return await Promise.race([work, late]);
  } finally {
    stop.abort();
  }
}

function unwrapped(error: unknown): unknown {
  return error instanceof ServerFailure ? error.cause : error;
}
