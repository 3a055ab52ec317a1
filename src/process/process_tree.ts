import { CrashedError, TimeoutError, UnsupportedError, ValidationError } from "../errors.ts";
import { throwIfAborted, withDeadline } from "../internal/deadline.ts";
import { readLines } from "../internal/lines.ts";
import { asPermissionError } from "../internal/permission.ts";
import { type KeeperEvent, parseKeeperEvent } from "./keeper_event.ts";
import { keeperSource } from "./keeper_source.ts";
import { LineTail } from "./line_tail.ts";

/** What to run, and how. */
export interface ProcessTreeOptions {
  /** Program and arguments. */
  readonly command: readonly string[];
  /** What the process is called in messages. Default its program. */
  readonly name?: string | undefined;
  /** Python 3.8 or later that runs the keeper. Default `"python3"`. */
  readonly keeperPython?: string | undefined;
  /** Variables to set, or to unset with `null`; the rest is inherited. */
  readonly env?: Readonly<Record<string, string | null>> | undefined;
  /** Folders to put in front of `PATH`. */
  readonly prependPath?: readonly string[] | undefined;
  /** Working folder. Default ours. */
  readonly cwd?: string | undefined;
  /**
   * File to append every line to; the keeper writes it, so Deno needs no permission. Default a
   * temporary file, which stays only when the process ends by itself with an error.
   */
  readonly logFile?: string | undefined;
  /** Called with every line of standard output and standard error. */
  readonly onLine?: ((line: string) => void) | undefined;
  /** Texts to replace by `***` in every line, such as API keys. */
  readonly secrets?: readonly string[] | undefined;
  /** Lines kept in memory. Default 200. */
  readonly tailLines?: number | undefined;
  /** What {@linkcode ProcessTree.stop} waits after SIGTERM, in milliseconds. Default 10,000. */
  readonly stopGraceMs?: number | undefined;
  /** The same, when this Deno process is gone. Default 2,000. */
  readonly orphanGraceMs?: number | undefined;
  /** Stops the tree when it fires, at any time. */
  readonly signal?: AbortSignal | undefined;
}

/** How a process ended. */
export interface ProcessExit {
  /** Exit code, or `null` when a signal ended it. */
  readonly exitCode: number | null;
  /** Signal that ended it, such as `"SIGKILL"`, or `null`. */
  readonly signal: string | null;
  /** Whether it was told to end, by `stop` or by a signal to its keeper. */
  readonly requested: boolean;
  /** Its last lines. */
  readonly logTail: string;
  /** The log file, when it was kept. */
  readonly logFile: string | null;
  /** Processes that even SIGKILL did not end within 10 seconds (stuck in the kernel). */
  readonly stuckPids: readonly number[];
}

/** How long the keeper may take to start, and to report the end after the last deadline. */
const keeperStartMs = 20_000;
const keeperEndMs = 15_000;

/** What a scoped `--allow-run` refuses to hand on; the keeper puts the inherited value back. */
const blanked = ["LD_LIBRARY_PATH", "LD_PRELOAD"] as const;

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
  readonly #name: string;
  readonly #keeper: Deno.ChildProcess;
  readonly #commands: WritableStreamDefaultWriter<Uint8Array>;
  readonly #tail: LineTail;
  readonly #stopGraceMs: number;
  #ended = false;

  private constructor(parts: KeeperParts, started: { pid: number; logFile: string }) {
    this.pid = started.pid;
    this.logFile = started.logFile;
    this.#name = parts.name;
    this.#keeper = parts.keeper;
    this.#commands = parts.commands;
    this.#tail = parts.tail;
    this.#stopGraceMs = parts.stopGraceMs;
    const { signal } = parts;
    const onAbort = () => void this.#tellStop(this.#stopGraceMs);
    if (signal?.aborted) onAbort();
    signal?.addEventListener("abort", onAbort);
    this.exited = parts.ended.then((exit) => {
      this.#ended = true;
      signal?.removeEventListener("abort", onAbort);
      return { ...exit, logFile: exit.logKept ? this.logFile : null };
    });
  }

  /**
   * Starts a process under a keeper and waits until it runs.
   *
   * @throws {ValidationError} when the command is empty.
   * @throws {UnsupportedError} when this is not Linux.
   * @throws {PermissionError} when Deno may not run the keeper's Python.
   * @throws {CrashedError} when the program or the keeper's Python cannot be started.
   * @throws {AbortedError} when `signal` fires before it runs.
   */
  static async launch(options: ProcessTreeOptions): Promise<ProcessTree> {
    checkOptions(options);
    throwIfAborted(options.signal, "start the process");
    const parts = startKeeper(options);
    const work = () => parts.started;
    try {
      const started = await withDeadline({
        phase: `start ${parts.name}`,
        timeoutMs: keeperStartMs,
        peer: "the keeper",
        lastHeard: () => parts.tail.last,
        signal: options.signal,
      }, work);
      parts.keeper.unref();
      return new ProcessTree(parts, started);
    } catch (error) {
      // The keeper ends the child when its life line breaks; killing it kills the child at once.
      killQuietly(parts.keeper);
      await parts.ended;
      throw error;
    }
  }

  /** The last lines, oldest first; at most `count`. */
  logTail(count?: number): string {
    return this.#tail.lines(count).join("\n");
  }

  /** The last line that is not blank. */
  get lastLine(): string | undefined {
    return this.#tail.last;
  }

  /**
   * Waits for the end, and keeps Deno running meanwhile.
   *
   * @throws {AbortedError} when `signal` fires; the process is left alone.
   */
  async wait(options: { signal?: AbortSignal | undefined } = {}): Promise<ProcessExit> {
    if (this.#ended) return await this.exited;
    this.#keeper.ref();
    try {
      return await withDeadline(
        { phase: `wait for ${this.#name}`, timeoutMs: Infinity, signal: options.signal },
        () => this.exited,
      );
    } finally {
      if (!this.#ended) this.#keeper.unref();
    }
  }

  /**
   * Ends the tree: SIGTERM to the main process, after `graceMs` SIGKILL to all that is left. Safe to
   * call twice; a second call may shorten the grace.
   *
   * @throws {TimeoutError} when the tree does not end.
   */
  async stop(options: { graceMs?: number | undefined } = {}): Promise<ProcessExit> {
    const graceMs = options.graceMs ?? this.#stopGraceMs;
    await this.#tellStop(graceMs);
    try {
      return await withDeadline({
        phase: `stop ${this.#name}`,
        timeoutMs: graceMs + keeperEndMs,
        peer: `process ${this.pid}`,
        lastHeard: () => this.#tail.last,
      }, () => this.wait());
    } catch (error) {
      if (error instanceof TimeoutError) killQuietly(this.#keeper);
      throw error;
    }
  }

  /** The same as {@linkcode ProcessTree.stop}. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }

  async #tellStop(graceMs: number): Promise<void> {
    if (this.#ended) return;
    const order = new TextEncoder().encode(`stop ${Math.max(0, Math.round(graceMs))}\n`);
    // A keeper that has just ended cannot be told; `exited` says so.
    await this.#commands.write(order).catch(() => {});
  }
}

interface KeeperEnd extends Omit<ProcessExit, "logFile"> {
  readonly logKept: boolean;
}

interface KeeperParts {
  readonly name: string;
  readonly keeper: Deno.ChildProcess;
  readonly commands: WritableStreamDefaultWriter<Uint8Array>;
  readonly tail: LineTail;
  readonly stopGraceMs: number;
  readonly signal: AbortSignal | undefined;
  readonly started: Promise<{ pid: number; logFile: string }>;
  readonly ended: Promise<KeeperEnd>;
}

function checkOptions(options: ProcessTreeOptions): void {
  if (Deno.build.os !== "linux") {
    throw new UnsupportedError(
      `Cannot own a process tree on ${Deno.build.os}: only Linux can. ` +
        "Start the server yourself and connect to its address",
    );
  }
  const { command, stopGraceMs = 0, orphanGraceMs = 0, tailLines = 1 } = options;
  if (command.length === 0 || command[0] === "") throw new ValidationError("`command` is empty");
  for (const [name, value] of Object.entries({ stopGraceMs, orphanGraceMs, tailLines })) {
    if (Number.isFinite(value) && value >= 0) continue;
    throw new ValidationError(`\`${name}\` must be a number of at least 0, not ${value}`);
  }
}

function startKeeper(options: ProcessTreeOptions): KeeperParts {
  const name = options.name ?? options.command[0]!;
  const python = options.keeperPython ?? "python3";
  const keeper = spawnKeeper(python, options.cwd);
  const tail = new LineTail(options.tailLines ?? 200);
  const commands = keeper.stdin.getWriter();
  const order = {
    command: options.command,
    env: options.env ?? {},
    blanked,
    prependPath: options.prependPath ?? [],
    cwd: options.cwd ?? null,
    logFile: options.logFile ?? null,
    secrets: options.secrets ?? [],
    orphanGraceMs: Math.round(options.orphanGraceMs ?? 2000),
  };
  // A keeper that cannot even read its order has an end to report, which is awaited.
  commands.write(new TextEncoder().encode(JSON.stringify(order) + "\n")).catch(() => {});
  return {
    name,
    keeper,
    commands,
    tail,
    stopGraceMs: options.stopGraceMs ?? 10_000,
    signal: options.signal,
    ...follow({ name, python, keeper, commands, tail, onLine: options.onLine }),
  };
}

function spawnKeeper(python: string, cwd: string | undefined): Deno.ChildProcess {
  try {
    return new Deno.Command(python, {
      args: ["-I", "-S", "-c", keeperSource],
      stdin: "piped",
      stdout: "piped",
      stderr: "piped",
      // A session of its own: Ctrl-C reaches Deno only, and Deno's own end does not kill the keeper.
      detached: true,
      env: Object.fromEntries(blanked.map((variable) => [variable, ""])),
      ...(cwd === undefined ? {} : { cwd }),
    }).spawn();
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) {
      throw new CrashedError(
        `Cannot run ${python}: no such program${cwd === undefined ? "" : ` or folder ${cwd}`}. ` +
          "Give the path of a Python 3 interpreter",
        { exitCode: null, logTail: "", cause: error },
      );
    }
    throw asPermissionError(error, `--allow-run=${python}`, `run ${python}`);
  }
}

interface Followed {
  readonly name: string;
  readonly python: string;
  readonly keeper: Deno.ChildProcess;
  readonly commands: WritableStreamDefaultWriter<Uint8Array>;
  readonly tail: LineTail;
  readonly onLine: ((line: string) => void) | undefined;
}

/** Reads everything that a keeper writes, to its end. */
function follow(parts: Followed): Pick<KeeperParts, "started" | "ended"> {
  const { keeper, tail } = parts;
  const started = Promise.withResolvers<{ pid: number; logFile: string }>();
  // Whether anybody still waits for the start is not known here.
  started.promise.catch(() => {});
  const events: KeeperEvent[] = [];
  const complaints = new LineTail(20);

  const readLog = async () => {
    for await (const line of readLines(keeper.stdout)) {
      tail.push(line);
      callBack(parts.onLine, line);
    }
  };
  const readEvents = async () => {
    for await (const line of readLines(keeper.stderr)) {
      const event = parseKeeperEvent(line);
      if (event === undefined) complaints.push(line);
      else events.push(event);
      if (event?.event === "started") started.resolve(event);
      if (event?.event === "failed") {
        started.reject(startError(parts, `${event.message} (${event.errno})`));
      }
      if (event?.event === "log_failed") {
        tail.push(`[the log file cannot be written any more: ${event.message}]`);
      }
    }
  };
  const finish = async (): Promise<KeeperEnd> => {
    await Promise.all([readLog(), readEvents()]);
    const status = await keeper.status;
    await parts.commands.close().catch(() => {});
    const exit = events.find((event) => event.event === "exited");
    const stuck = events.find((event) => event.event === "stuck");
    const said = complaints.lines().join("\n");
    const how = said || `the keeper ended with ${status.signal ?? `code ${status.code}`}`;
    started.reject(startError(parts, how));
    if (exit === undefined) tail.push(`[${how}]`);
    return {
      exitCode: exit?.code ?? null,
      // A killed keeper takes its child along with SIGKILL and can't report.
      signal: exit === undefined ? "SIGKILL" : exit.signal,
      requested: exit?.requested ?? false,
      logKept: exit?.logKept ?? true,
      logTail: tail.lines().join("\n"),
      stuckPids: stuck?.pids ?? [],
    };
  };
  return { started: started.promise, ended: finish() };
}

function startError(parts: Followed, reason: string): CrashedError {
  const how = reason.trimEnd();
  return new CrashedError(`Cannot start ${parts.name}: ${how}`, {
    exitCode: null,
    logTail: parts.tail.lines().join("\n"),
  });
}

/** A callback that throws must neither stop the draining nor be lost. */
function callBack(onLine: ((line: string) => void) | undefined, line: string): void {
  try {
    onLine?.(line);
  } catch (error) {
    queueMicrotask(() => reportError(error));
  }
}

function killQuietly(keeper: Deno.ChildProcess): void {
  try {
    keeper.kill("SIGKILL");
  } catch {
    // It has ended already.
  }
}
