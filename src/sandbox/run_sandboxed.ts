import { checkOptionNames, type OptionNames } from "../internal/option_names.ts";
import { isAbsolute } from "node:path";
import { LimitError, PermissionError, ValidationError } from "../errors.ts";
import { type Clock, systemClock } from "../internal/clock.ts";
import { withDeadline } from "../internal/deadline.ts";
import { asPermissionError } from "../internal/permission.ts";

/** Limits of a {@linkcode runSandboxed}. */
export interface SandboxLimits {
  /** Longest time, in milliseconds. Default 5 000. */
  readonly timeoutMs?: number | undefined;
  /** Longest time of the processor, in whole seconds, kept by the kernel. Default 5. */
  readonly cpuSeconds?: number | undefined;
  /** Memory of the code, in MiB, besides the 640 MiB that Deno may use itself. Default 128. */
  readonly memoryMib?: number | undefined;
  /** Most bytes of each of the two outputs. Default 64 KiB. */
  readonly outputBytes?: number | undefined;
  /** Largest file that it may write, in MiB, kept by the kernel. Default 16. */
  readonly fileMib?: number | undefined;
  /** Longest code, in characters. Default 100 000. */
  readonly codeChars?: number | undefined;
  /** What the code may do. Default nothing. */
  readonly permissions?: SandboxPermissions | undefined;
}

/** The names of all of them. */
export const SANDBOX_LIMIT_NAMES = {
  timeoutMs: true,
  cpuSeconds: true,
  memoryMib: true,
  outputBytes: true,
  fileMib: true,
  codeChars: true,
  permissions: true,
} as const satisfies OptionNames<SandboxLimits>;

/**
 * What code in a sandbox may do, as Deno's flags have it. Programs, libraries and the environment cannot
 * be given: they lead out of it.
 */
export interface SandboxPermissions {
  /** Files and folders that it may read, and import from, by their absolute paths. */
  readonly read?: readonly string[] | undefined;
  /** Files and folders that it may write, by their absolute paths. */
  readonly write?: readonly string[] | undefined;
  /** Hosts that it may reach, with or without a port: `127.0.0.1:8080`. Modules are not loaded from them. */
  readonly net?: readonly string[] | undefined;
}

/** Options of {@linkcode runSandboxed}. */
export interface SandboxOptions extends SandboxLimits {
  /** Ends the run. */
  readonly signal?: AbortSignal | undefined;
  /** The time that the limit uses. */
  readonly clock?: Clock | undefined;
}

const NAMES = {
  ...SANDBOX_LIMIT_NAMES,
  signal: true,
  clock: true,
} as const satisfies OptionNames<SandboxOptions>;

/** How a run ended: by itself, or by which limit. */
export type SandboxEnding = "exit" | "time" | "output" | "killed";

/** What came of a run. */
export interface SandboxResult {
  /** Whether the code ran to its end without an error; one that left before, by `Deno.exit(0)`, did not. */
  readonly ok: boolean;
  /**
   * How it ended. `killed` is the kernel's or the engine's end of a program that used too much memory
   * or processor time, or wrote too large a file.
   */
  readonly ending: SandboxEnding;
  /** What it printed, cut at `outputBytes`. */
  readonly stdout: string;
  /** Its errors, cut at `outputBytes`. */
  readonly stderr: string;
  /** The permission that it asked for and did not get; `null` when there is none. */
  readonly denied: string | null;
}

/** How Deno tells what was not allowed; links need more than files by name. */
const DENIAL = /NotCapable: (?:Requires (\w+) access|\S+ requires unscoped --allow-(\w+))/;
/** What is told of code that was not failed by anything, and yet did not come to its end. */
const LEFT = "The program left before its end, as by Deno.exit().\n";
/** What Deno needs for itself, counted by the kernel as data. */
const OWN_MIB = 640;
/** Bytes of the mark that stands before the code. */
const MARK_BYTES = 36;
/**
 * Reads the code from its input, so that no module of it is local: those may import files. Says by a
 * mark that the code does not know that it came to its end: who leaves before it is not done.
 */
const LOADER = `
const { stderr } = Deno;
const writeSync = stderr.writeSync.bind(stderr);
const input = new Uint8Array(await new Response(Deno.stdin.readable).arrayBuffer());
const mark = input.subarray(0, ${MARK_BYTES});
const bytes = input.subarray(${MARK_BYTES});
let text = "";
for (let i = 0; i < bytes.length; i += 8192) text += String.fromCharCode(...bytes.subarray(i, i + 8192));
await import("data:application/typescript;base64," + btoa(text));
writeSync(mark);
`;
/** Where Deno keeps storage and compiled code: nowhere, so that no run leaves something to the next. */
const NO_FOLDER = "/dev/null";

/**
 * Runs TypeScript or JavaScript that nobody trusts in a process of its own: Deno with no permission but
 * those given, no environment, no modules but those of Deno itself, and limits that the kernel keeps.
 * The process is killed at a limit and has ended when this returns.
 *
 * Needs `--allow-run`, and a Unix shell for the limits.
 *
 * @throws {LimitError} Code that is too long.
 * @throws {AbortedError} When the signal fires.
 * @throws {PermissionError} Without `--allow-run`.
 *
 * @example
 * ```ts ignore
 * const { ok, stdout } = await runSandboxed("console.log(6 * 7)");
 * ```
 */
export async function runSandboxed(
  code: string,
  options: SandboxOptions = {},
): Promise<SandboxResult> {
  checkOptionNames(options, NAMES, "a sandbox");
  const { signal, clock = systemClock } = options;
  const limits = limitsOf(options);
  const permissions = permissionFlags(options.permissions ?? {});
  if (code.length > limits.codeChars) {
    throw new LimitError(`The code has ${code.length} characters, more than codeChars`, {
      limit: "codeChars",
      max: limits.codeChars,
    });
  }
  signal?.throwIfAborted();
  const child = spawn(limits, permissions);
  const mark = crypto.randomUUID();
  let ending: SandboxEnding = "exit";
  const end = (why: SandboxEnding) => {
    if (ending !== "exit") return;
    ending = why;
    kill(child);
  };
  const onAbort = () => kill(child);
  signal?.addEventListener("abort", onAbort, { once: true });
  const cancelTimer = clock.schedule(limits.timeoutMs, () => end("time"));
  try {
    const onFull = () => end("output");
    const [stdout, errors, status] = await Promise.all([
      readUpTo(child.stdout, limits.outputBytes, onFull),
      readUpTo(child.stderr, limits.outputBytes + MARK_BYTES, onFull),
      child.status,
      feed(child.stdin, mark + code),
    ]);
    signal?.throwIfAborted();
    // A signal that is not ours, and a failed allocation of the engine, are ends by a limit.
    if (ending === "exit" && (status.signal !== null || status.code >= 128)) ending = "killed";
    const isWhole = errors.includes(mark);
    const hasLeft = status.success && ending === "exit" && !isWhole;
    const stderr = errors.replace(mark, "") + (hasLeft ? LEFT : "");
    const [, one, all] = DENIAL.exec(stderr) ?? [];
    const denied = one ?? all ?? null;
    return { ok: status.success && ending === "exit" && isWhole, ending, stdout, stderr, denied };
  } finally {
    cancelTimer();
    signal?.removeEventListener("abort", onAbort);
    kill(child);
    await withDeadline(
      { phase: "end of a sandbox", timeoutMs: 10_000, clock: systemClock },
      async () => void await child.status,
    );
  }
}

type Limits = { readonly [K in Exclude<keyof SandboxLimits, "permissions">]-?: number };

function limitsOf(options: SandboxOptions): Limits {
  const limits = {
    timeoutMs: options.timeoutMs ?? 5_000,
    cpuSeconds: options.cpuSeconds ?? 5,
    memoryMib: options.memoryMib ?? 128,
    outputBytes: options.outputBytes ?? 65_536,
    fileMib: options.fileMib ?? 16,
    codeChars: options.codeChars ?? 100_000,
  };
  for (const [name, value] of Object.entries(limits)) {
    if (Number.isSafeInteger(value) && value > 0) continue;
    throw new ValidationError(`Sandbox: ${name} must be a whole number above 0, not ${value}`);
  }
  return limits;
}

const PERMISSION_NAMES = {
  read: true,
  write: true,
  net: true,
} as const satisfies OptionNames<SandboxPermissions>;

/** The flags of permissions; an empty list gives nothing, where Deno's bare flag would give all. */
function permissionFlags(permissions: SandboxPermissions): string[] {
  const hint = "Only files and hosts can be given to a sandbox.";
  checkOptionNames(permissions, PERMISSION_NAMES, "the permissions of a sandbox", hint);
  const flags: string[] = [];
  for (const name of Object.keys(PERMISSION_NAMES) as (keyof SandboxPermissions)[]) {
    const given = permissions[name] ?? [];
    for (const value of given) checkPermission(name, value);
    if (given.length > 0) flags.push(`--allow-${name}=${given.join(",")}`);
  }
  return flags;
}

function checkPermission(name: keyof SandboxPermissions, value: string): void {
  // A comma would begin the next one.
  const isFit = name === "net"
    ? /^[^\s,]+$/.test(value)
    : isAbsolute(value) && !value.includes(",");
  if (isFit) return;
  const wanted = name === "net" ? "hosts" : "absolute paths without a comma";
  throw new ValidationError(
    `Sandbox: permissions.${name} must be ${wanted}, not ${JSON.stringify(value)}`,
  );
}

function spawn(limits: Limits, permissions: readonly string[]): Deno.ChildProcess {
  const { cpuSeconds, memoryMib, fileMib } = limits;
  // Without a limit nothing is run. POSIX counts files in blocks of 512 bytes.
  const script = `ulimit -c 0 && ulimit -t ${cpuSeconds} && ulimit -f ${fileMib * 2048} && ` +
    `ulimit -d ${(OWN_MIB + memoryMib) * 1024} && exec "$0" "$@"`;
  const flags = ["--no-prompt", "--no-remote", "--no-npm", "--no-config", "--no-lock", "--quiet"];
  try {
    return new Deno.Command("/bin/sh", {
      args: [
        "-c",
        script,
        Deno.execPath(),
        "run",
        ...flags,
        ...permissions,
        `--v8-flags=--max-old-space-size=${memoryMib}`,
        `data:application/javascript,${encodeURIComponent(LOADER)}`,
      ],
      clearEnv: true,
      env: { NO_COLOR: "1", DENO_NO_UPDATE_CHECK: "1", DENO_DIR: NO_FOLDER },
      cwd: "/",
      stdin: "piped",
      stdout: "piped",
      stderr: "piped",
    }).spawn();
  } catch (error) {
    const known = asPermissionError(error, "--allow-run=/bin/sh", "run code in a sandbox");
    throw known instanceof PermissionError ? known : error;
  }
}

function kill(child: Deno.ChildProcess): void {
  try {
    child.kill("SIGKILL");
  } catch { /* It has ended. */ }
}

async function feed(stdin: WritableStream<Uint8Array>, code: string): Promise<void> {
  const writer = stdin.getWriter();
  try {
    await writer.write(new TextEncoder().encode(code));
    await writer.close();
  } catch { /* It ended before it read all; its status tells. */ }
}

async function readUpTo(
  stream: ReadableStream<Uint8Array>,
  most: number,
  onFull: () => void,
): Promise<string> {
  const parts: Uint8Array[] = [];
  let length = 0;
  for await (const part of stream) {
    const room = most - length;
    if (room > 0) parts.push(part.subarray(0, room));
    length += part.length;
    if (length > most) onFull();
  }
  const bytes = new Uint8Array(Math.min(length, most));
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return new TextDecoder().decode(bytes);
}
