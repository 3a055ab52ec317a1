import { CrashedError } from "../errors.ts";
import { readLines } from "../internal/lines.ts";
import { asPermissionError } from "../internal/permission.ts";
import { type KeeperEvent, parseKeeperEvent } from "./keeper_event.ts";
import { keeperSource } from "./keeper_source.ts";
import { LineTail } from "./line_tail.ts";
import type { ProcessExit, ProcessTreeOptions } from "./options.ts";

/** What a scoped `--allow-run` refuses to hand on; the keeper puts the inherited value back. */
const refusedVariables = ["LD_LIBRARY_PATH", "LD_PRELOAD"] as const;

/** The keeper cuts the lines of the process at 64 KiB; its own are short. */
const keeperLine = { name: "keeperLineBytes", maxBytes: 256 * 1024, cuts: true } as const;

/** How a keeper's process ended. */
export interface KeeperEnd extends Omit<ProcessExit, "logFile"> {
  /** Whether the log file is still there. */
  readonly logKept: boolean;
}

/** A running keeper: what it says, and the line on which it listens. */
export interface Keeper {
  /** What its process is called in messages. */
  readonly name: string;
  /** The keeper's own process. */
  readonly child: Deno.ChildProcess;
  /** Its last lines. */
  readonly tail: LineTail;
  /** Resolves when its process runs; rejects when that can't be. */
  readonly started: Promise<{ pid: number; logFile: string }>;
  /** Resolves when keeper and tree are gone. */
  readonly ended: Promise<KeeperEnd>;
  /** Asks to end the tree; a keeper that is gone already can't hear it, and `ended` says so. */
  stop(graceMs: number): void;
  /** Kills the keeper, and with it the main process. */
  kill(): void;
}

/**
 * Starts a keeper and gives it its order.
 *
 * @throws {CrashedError} When there is no such Python.
 * @throws {PermissionError} When Deno may not run it.
 */
export function startKeeper(options: ProcessTreeOptions): Keeper {
  const name = options.name ?? options.command[0]!;
  const python = options.keeperPython ?? "python3";
  // With an unscoped flag Deno hands everything on by itself.
  const scoped = Deno.permissions.querySync({ name: "run" }).state !== "granted";
  const blanked = scoped ? refusedVariables : [];
  const child = spawnKeeper(python, {
    blanked,
    cwd: options.cwd,
    // Servers and the router run in the Python that keeps them.
    option: python === options.command[0] ? "python" : "keeperPython",
  });
  const tail = new LineTail(options.tailLines ?? 200);
  const lifeLine = child.stdin.getWriter();
  const tell = (line: string): void => {
    lifeLine.write(new TextEncoder().encode(line + "\n")).catch(() => {});
  };
  tell(JSON.stringify({
    command: options.command,
    env: options.env ?? {},
    blanked,
    prependPath: options.prependPath ?? [],
    cwd: options.cwd ?? null,
    logFile: options.logFile ?? null,
    input: options.input ?? null,
    secrets: options.secrets ?? [],
    orphanGraceMs: Math.round(options.orphanGraceMs ?? 2000),
  }));
  return {
    name,
    child,
    tail,
    stop(graceMs) {
      // One that was frozen can hear it then.
      signalQuietly(child, "SIGCONT");
      tell(`stop ${Math.max(0, Math.round(graceMs))}`);
    },
    kill: () => signalQuietly(child, "SIGKILL"),
    ...follow({ name, child, lifeLine, tail, onLine: options.onLine }),
  };
}

function spawnKeeper(
  python: string,
  { blanked, cwd, option }: {
    readonly blanked: readonly string[];
    readonly cwd: string | undefined;
    readonly option: string;
  },
): Deno.ChildProcess {
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
          `Give the path of a Python 3 interpreter as \`${option}\``,
        { exitCode: null, logTail: "", cause: error },
      );
    }
    throw asPermissionError(error, `--allow-run=${python}`, `run ${python}`);
  }
}

interface Followed {
  readonly name: string;
  readonly child: Deno.ChildProcess;
  readonly lifeLine: WritableStreamDefaultWriter<Uint8Array>;
  readonly tail: LineTail;
  readonly onLine: ((line: string) => void) | undefined;
}

/** Reads everything that a keeper writes, to its end. */
function follow(parts: Followed): Pick<Keeper, "started" | "ended"> {
  const { child, tail } = parts;
  const started = Promise.withResolvers<{ pid: number; logFile: string }>();
  // Whether anybody still waits for the start is not known here.
  started.promise.catch(() => {});
  const events: KeeperEvent[] = [];
  const complaints = new LineTail(20);

  const readLog = async () => {
    for await (const line of readLines(child.stdout, keeperLine)) {
      tail.push(line);
      callBack(parts.onLine, line);
    }
  };
  const readEvents = async () => {
    for await (const line of readLines(child.stderr, keeperLine)) {
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
    const status = await child.status;
    await parts.lifeLine.close().catch(() => {});
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

function signalQuietly(child: Deno.ChildProcess, signal: Deno.Signal): void {
  try {
    child.kill(signal);
  } catch {
    // It has ended already.
  }
}
