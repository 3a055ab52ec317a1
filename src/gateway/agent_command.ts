import { type ChildProcess, spawn } from "node:child_process";
import process from "node:process";
import { withDeadline } from "../internal/deadline.ts";
import { checkOptionNames, type OptionNames } from "../internal/option_names.ts";
import { asPermissionError } from "../internal/permission.ts";
import { AgentError, type AgentTask, type RunAgent } from "./agent_environment.ts";

/** How much of what a command says last is told where it fails. */
const KEPT_CHARACTERS = 4_000;

/** Options of {@linkcode agentCommand}. */
export interface AgentCommandOptions {
  /** Its arguments, the same for each run or made for it. */
  readonly args?: readonly string[] | ((task: AgentTask) => readonly string[]) | undefined;
  /** Further variables, beside those of {@linkcode AgentTask.env}. Default none but `PATH`. */
  readonly env?: Readonly<Record<string, string>> | undefined;
  /** Its folder. Default the present one. */
  readonly cwd?: string | undefined;
  /**
   * A command and its arguments that is run after each run, however that ended: what the agent started
   * elsewhere ends there. Who kills `docker run` leaves its container running; `docker rm -f` ends it.
   */
  readonly cleanUp?: ((task: AgentTask) => readonly [string, ...string[]]) | undefined;
}

const OPTION_NAMES = {
  args: true,
  env: true,
  cwd: true,
  cleanUp: true,
} as const satisfies OptionNames<AgentCommandOptions>;

/** Longest time of a clean-up. */
const CLEAN_UP_MS = 30_000;

/**
 * An agent that is a program of its own: a script, a harness, a container (`docker run --rm -e …`).
 * It finds base URL and key in its variables. The last line that it prints may be its outcome, for
 * example `{"reward": 1}`; it can also post rewards to `$SGLANG_RL_SESSION_URL/reward`. One that ends
 * with another code than 0 has failed. Needs `--allow-run` of the command.
 *
 * @example
 * ```ts ignore
 * const environment = () => agentEnvironment(gateway, agentCommand("python3", { args: ["agent.py"] }));
 * ```
 */
export function agentCommand(command: string, options: AgentCommandOptions = {}): RunAgent {
  checkOptionNames(options, OPTION_NAMES, "agentCommand()");
  const { args = [], env = {}, cwd, cleanUp } = options;
  return async (task) => {
    const place = { cwd, env: { ...path(), ...env, ...task.env, ...numbersOf(task) } };
    const list = typeof args === "function" ? args(task) : args;
    const { code, out, err } = await runProcess(command, list, { ...place, signal: task.signal })
      .finally(() => cleanUp && cleanedUp(cleanUp(task), place));
    if (code !== 0) {
      const said = (err.trim() || out.trim()).slice(-KEPT_CHARACTERS);
      throw new AgentError(`${command} ended with code ${code}` + (said === "" ? "" : `: ${said}`));
    }
    return outcomeIn(out);
  };
}

/** Runs a clean-up; one that fails is no fault of the agent's run. */
async function cleanedUp(
  [command, ...args]: readonly [string, ...string[]],
  place: { readonly cwd: string | undefined; readonly env: Record<string, string> },
): Promise<void> {
  const options = { phase: `the clean-up by ${command}`, timeoutMs: CLEAN_UP_MS };
  await withDeadline(options, (signal) => runProcess(command, args, { ...place, signal }))
    .catch(() => {});
}

function path(): Record<string, string> {
  try {
    const { PATH } = process.env;
    return PATH === undefined ? {} : { PATH };
  } catch {
    // Without permission the command must be a path.
    return {};
  }
}

function numbersOf({ dialog, group, member, attempt }: AgentTask): Record<string, string> {
  return {
    SGLANG_RL_DIALOG: String(dialog),
    SGLANG_RL_GROUP: String(group),
    SGLANG_RL_MEMBER: String(member),
    SGLANG_RL_ATTEMPT: String(attempt),
  };
}

interface Ended {
  readonly code: number | string;
  readonly out: string;
  readonly err: string;
}

async function runProcess(
  command: string,
  args: readonly string[],
  { cwd, env, signal }: {
    readonly cwd: string | undefined;
    readonly env: Record<string, string>;
    readonly signal: AbortSignal;
  },
): Promise<Ended> {
  signal.throwIfAborted();
  let child: ChildProcess;
  const ended = Promise.withResolvers<number | string>();
  try {
    // A group of its own, so that what it starts ends with it.
    child = spawn(command, [...args], {
      ...(cwd === undefined ? {} : { cwd }),
      env,
      detached: true,
      stdio: ["ignore", "pipe", "pipe"],
    });
    child.once("error", ended.reject);
    child.once("close", (code, signal) => ended.resolve(code ?? signal ?? "unknown"));
  } catch (error) {
    throw asPermissionError(error, `--allow-run=${command}`, `run ${command}`);
  }
  const out = tailOf(child.stdout!);
  const err = tailOf(child.stderr!);
  const kill = () => {
    try {
      process.kill(-child.pid!, "SIGKILL");
    } catch {
      child.kill("SIGKILL");
    }
  };
  signal.addEventListener("abort", kill, { once: true });
  try {
    const code = await ended.promise;
    return { code, out: out(), err: err() };
  } catch (error) {
    throw new AgentError(`${command} cannot be run: ${(error as Error).message}`, { cause: error });
  } finally {
    signal.removeEventListener("abort", kill);
  }
}

/** Keeps the last of what is written. */
function tailOf(stream: NodeJS.ReadableStream): () => string {
  const decoder = new TextDecoder();
  let text = "";
  stream.on("data", (bytes: Uint8Array) => {
    text = (text + decoder.decode(bytes, { stream: true })).slice(-2 * KEPT_CHARACTERS);
  });
  return () => text;
}

function outcomeIn(out: string): ReturnType<RunAgent> extends Promise<infer T> ? T : never {
  const last = out.trimEnd().split("\n").at(-1) ?? "";
  if (!last.startsWith("{")) return undefined;
  let value: unknown;
  try {
    value = JSON.parse(last);
  } catch {
    return undefined;
  }
  const { reward, truncated, info } = value as Record<string, unknown>;
  return {
    ...(typeof reward === "number" ? { reward } : {}),
    ...(typeof truncated === "boolean" ? { truncated } : {}),
    ...(typeof info === "object" && info !== null ? { info: info as Record<string, unknown> } : {}),
  };
}
