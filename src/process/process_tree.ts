import { TimeoutError, UnsupportedError, ValidationError } from "../errors.ts";
import { throwIfAborted, withDeadline } from "../internal/deadline.ts";
import { type Keeper, startKeeper } from "./keeper.ts";
import type { ProcessExit, ProcessTreeOptions } from "./options.ts";
import { checkOptionNames } from "../internal/option_names.ts";
import { PROCESS_OPTION_NAMES } from "./options.ts";

/** How long the keeper may take to start, and to report the end after the last deadline. */
const keeperStartMs = 20_000;
const keeperEndMs = 15_000;
/** How long what is left may take to end once the keeper was killed. */
const killedEndMs = 2_000;
/** What a pipe takes at once on Linux, with some room. */
const MAX_INPUT_BYTES = 60_000;

/**
 * A process with all its descendants, which ends when this Deno process ends, in whatever way:
 * natural end, `Deno.exit`, an uncaught error, a signal, `kill -9` included. Descendants in sessions
 * of their own are covered.
 *
 * The tree does not keep Deno's event loop alive, but {@linkcode ProcessTree.wait} does.
 *
 * Needs `--allow-run=<keeperPython>`, nothing else. Linux only.
 */
export class ProcessTree implements AsyncDisposable {
  /** Process id of the main process. */
  readonly pid: number;
  /** Where every line goes. */
  readonly logFile: string;
  /** Resolves, never rejects, when no process of the tree is left. Does not hold the event loop. */
  readonly exited: Promise<ProcessExit>;
  readonly #keeper: Keeper;
  readonly #stopGraceMs: number;
  #ended = false;
  #waiting = 0;

  private constructor(
    keeper: Keeper,
    started: { pid: number; logFile: string },
    options: ProcessTreeOptions,
  ) {
    this.pid = started.pid;
    this.logFile = started.logFile;
    this.#keeper = keeper;
    this.#stopGraceMs = options.stopGraceMs ?? 10_000;
    const { signal } = options;
    const onAbort = () => keeper.stop(this.#stopGraceMs);
    if (signal?.aborted) onAbort();
    signal?.addEventListener("abort", onAbort);
    this.exited = keeper.ended.then(({ logKept, ...exit }) => {
      this.#ended = true;
      signal?.removeEventListener("abort", onAbort);
      return { ...exit, logFile: logKept ? this.logFile : null };
    });
  }

  /**
   * Starts a process under a keeper and waits until it runs.
   *
   * @throws {ValidationError} When the command is empty.
   * @throws {UnsupportedError} When this is not Linux.
   * @throws {PermissionError} When Deno may not run the keeper's Python.
   * @throws {CrashedError} When the program or the keeper's Python cannot be started.
   * @throws {AbortedError} When `signal` fires before it runs.
   */
  static async launch(options: ProcessTreeOptions): Promise<ProcessTree> {
    checkOptions(options);
    throwIfAborted(options.signal, "start the process");
    const keeper = startKeeper(options);
    try {
      const started = await withDeadline({
        phase: `start ${keeper.name}`,
        timeoutMs: keeperStartMs,
        peer: "the keeper",
        lastHeard: () => keeper.tail.last,
        signal: options.signal,
      }, () => keeper.started);
      keeper.child.unref();
      return new ProcessTree(keeper, started, options);
    } catch (error) {
      // What hinders it from ending in order says less than the error that is there already.
      keeper.stop(0);
      const end = { phase: "end the keeper", timeoutMs: keeperEndMs };
      await withDeadline(end, () => keeper.ended).catch(() => keeper.kill());
      throw error;
    }
  }

  /** The last lines, oldest first; at most `count`. */
  logTail(count?: number): string {
    return this.#keeper.tail.lines(count).join("\n");
  }

  /** The last line that is not blank. */
  get lastLine(): string | undefined {
    return this.#keeper.tail.last;
  }

  /**
   * Waits for the end, and keeps Deno running meanwhile.
   *
   * @throws {AbortedError} When `signal` fires; the process is left alone.
   */
  async wait(options: { signal?: AbortSignal | undefined } = {}): Promise<ProcessExit> {
    if (this.#ended) return await this.exited;
    if (this.#waiting++ === 0) this.#keeper.child.ref();
    try {
      return await withDeadline(
        { phase: `wait for ${this.#keeper.name}`, timeoutMs: Infinity, signal: options.signal },
        () => this.exited,
      );
    } finally {
      if (--this.#waiting === 0 && !this.#ended) this.#keeper.child.unref();
    }
  }

  /**
   * Ends the tree: SIGTERM to the main process, after `graceMs` SIGKILL to all that is left. Safe to
   * call twice; a second call may shorten the grace.
   *
   * @throws {TimeoutError} When a process cannot be ended, as one that is stuck in a driver.
   */
  async stop(options: { graceMs?: number | undefined } = {}): Promise<ProcessExit> {
    const graceMs = options.graceMs ?? this.#stopGraceMs;
    const timeoutMs = graceMs + keeperEndMs;
    const phase = `stop ${this.#keeper.name}`;
    const peer = `process ${this.pid}`;
    if (!this.#ended) this.#keeper.stop(graceMs);
    const exit = await withDeadline(
      { phase, timeoutMs, peer, lastHeard: () => this.lastLine },
      () => this.wait(),
    ).catch(async (error) => {
      this.#keeper.kill();
      const end = { phase: "end the keeper", timeoutMs: killedEndMs };
      await withDeadline(end, () => this.#keeper.ended).catch(() => {});
      throw error;
    });
    if (exit.stuckPids.length === 0) return exit;
    const hint = `Not even SIGKILL ended ${exit.stuckPids.join(", ")}`;
    throw new TimeoutError({ phase, timeoutMs, peer, lastHeard: this.lastLine, hint });
  }

  /** The same as {@linkcode ProcessTree.stop}. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }
}

function checkOptions(options: ProcessTreeOptions): void {
  checkOptionNames(options, PROCESS_OPTION_NAMES, "ProcessTree.launch()");
  if (Deno.build.os !== "linux") {
    throw new UnsupportedError(
      `Cannot own a process tree on ${Deno.build.os}: only Linux can. ` +
        "Start the server yourself and connect to its address",
    );
  }
  if (new TextEncoder().encode(options.input ?? "").length > MAX_INPUT_BYTES) {
    throw new ValidationError(`\`input\` has more than ${MAX_INPUT_BYTES} bytes`);
  }
  const { command, stopGraceMs = 0, orphanGraceMs = 0, tailLines = 1 } = options;
  if (command.length === 0 || command[0] === "") throw new ValidationError("`command` is empty");
  for (const [name, value] of Object.entries({ stopGraceMs, orphanGraceMs, tailLines })) {
    if (Number.isFinite(value) && value >= 0) continue;
    throw new ValidationError(`\`${name}\` must be a number of at least 0, not ${value}`);
  }
}
