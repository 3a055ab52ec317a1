import { checkOptionNames, type OptionNames } from "../internal/option_names.ts";
import { CrashedError, TimeoutError } from "../errors.ts";
import { systemClock } from "../internal/clock.ts";
import { sleep, withDeadline } from "../internal/deadline.ts";
import { lastLines } from "../internal/last_lines.ts";
import { asPermissionError } from "../internal/permission.ts";
import type { ProcessExit } from "./options.ts";
import type { ProcessTree } from "./process_tree.ts";
import { crashHint } from "./crash_hint.ts";

/** What is known while a process starts. */
export interface LaunchProgress {
  /** Since the launch, in milliseconds. */
  readonly elapsedMs: number;
  /** The last line that it logged. */
  readonly lastLine: string | undefined;
}

/** How a process is seen to be ready. */
export interface ReadyOptions {
  /** What is started, for messages. */
  readonly name: string;
  /** The process. */
  readonly tree: ProcessTree;
  /** Resolves to whether it is ready; rejecting counts as not yet, but for a permission. */
  readonly probe: (signal: AbortSignal) => Promise<boolean>;
  /** Host and port that are asked, for the error about the permission. */
  readonly address: string;
  /** Longest wait. */
  readonly timeoutMs: number;
  /** Pause between two probes. */
  readonly intervalMs: number;
  /** What is still missing, for the error at the deadline. Default the last line of the log. */
  readonly missing?: (() => string | undefined) | undefined;
  /** Told about every few seconds. */
  readonly onProgress?: ((progress: LaunchProgress) => void) | undefined;
  /** Gives the wait up. */
  readonly signal?: AbortSignal | undefined;
}

const NAMES = {
  name: true,
  tree: true,
  probe: true,
  address: true,
  timeoutMs: true,
  intervalMs: true,
  missing: true,
  onProgress: true,
  signal: true,
} as const satisfies OptionNames<ReadyOptions>;

/** A probe may take this long: SGLang itself gives a health check 20 s. */
const probeMs = 25_000;
const progressMs = 2_000;
/** How many lines of its log are told of a process that does not start. */
const toldLines = 30;

/**
 * Waits until a started process is ready. When it is not, the process is ended first and then the
 * reason thrown.
 *
 * @throws {CrashedError} As soon as the process has ended, with its last lines.
 * @throws {TimeoutError} At the deadline, with its last line.
 * @throws {AbortedError} When `signal` fires.
 * @throws {PermissionError} When Deno may not connect.
 */
export async function waitUntilReady(options: ReadyOptions): Promise<void> {
  checkOptionNames(options, NAMES, "waitUntilReady()");
  const { name, tree } = options;
  try {
    await withDeadline({
      phase: `wait until ${name} is ready`,
      timeoutMs: options.timeoutMs,
      peer: `process ${tree.pid}`,
      lastHeard: () => options.missing?.() ?? tree.lastLine,
      hint: "Give it more time, or look at its log",
      signal: options.signal,
    }, async (signal) => {
      const crash = tree.exited.then((exit) => {
        throw crashedError(name, exit);
      });
      const ended = new AbortController();
      const polled = poll(options, AbortSignal.any([signal, ended.signal]));
      try {
        await Promise.race([crash, polled]);
      } finally {
        ended.abort();
        // After a crash its own end is of no interest, but it must have ended.
        await polled.catch(() => {});
      }
    });
  } catch (error) {
    const stopped = tree.stop({ graceMs: 0 });
    // What ended the wait says more than a process that won't die.
    const exit = await stopped.catch(() => undefined);
    if (!(error instanceof TimeoutError) || exit === undefined) throw error;
    throw new TimeoutError({
      phase: error.phase,
      timeoutMs: error.timeoutMs,
      peer: error.peer,
      lastHeard: error.lastHeard,
      hint: `Give it more time. ${lastLines(exit.logTail, toldLines)}`,
      cause: error,
    });
  }
}

async function poll(options: ReadyOptions, signal: AbortSignal): Promise<void> {
  const startedAt = systemClock.now();
  let toldAt = -Infinity;
  while (!await isReady(options, signal)) {
    const elapsedMs = systemClock.now() - startedAt;
    if (elapsedMs - toldAt >= progressMs) {
      toldAt = elapsedMs;
      options.onProgress?.({ elapsedMs, lastLine: options.tree.lastLine });
    }
    await sleep(options.intervalMs, { signal });
  }
}

async function isReady(options: ReadyOptions, signal: AbortSignal): Promise<boolean> {
  try {
    return await withDeadline(
      { phase: "ask for health", timeoutMs: probeMs, signal },
      options.probe,
    );
  } catch (error) {
    const { address } = options;
    const known = asPermissionError(error, `--allow-net=${address}`, `connect to ${address}`);
    if (known !== error || signal.aborted) throw known;
    return false;
  }
}

/** The error for a process that ended although it should run. */
export function crashedError(name: string, exit: ProcessExit): CrashedError {
  const how = exit.signal === null ? `exit code ${exit.exitCode}` : `signal ${exit.signal}`;
  const hint = crashHint(exit.logTail);
  const log = exit.logFile === null ? "" : ` The whole log is in ${exit.logFile}.`;
  return new CrashedError(
    `${name} ended with ${how}.${hint === undefined ? "" : ` ${hint}.`}${log} ` +
      lastLines(exit.logTail, toldLines),
    { exitCode: exit.exitCode, signal: exit.signal, logTail: exit.logTail },
  );
}
