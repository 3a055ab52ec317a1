/** `serve` as a process of its own with the real SGLang, in a pipe or in a terminal. */
import { readLines } from "../../../src/internal/lines.ts";
import { sleep } from "../../../src/internal/deadline.ts";
import { type ControlledFleet, controlledFleet } from "../../../src/cli/control_client.ts";
import { freePort } from "../../_support/free_port.ts";
import { cpuEnv, routerPython } from "../../_support/real.ts";

const program = new URL("../../../src/cli/mod.ts", import.meta.url).pathname;

/** Runs a command in a terminal of its own, which closes with our standard input. */
const terminal = `
import os, pty, select, sys
command = sys.argv[1:]
pid, fd = pty.fork()
if pid == 0:
    os.execvp(command[0], command)
print(pid, flush=True)
while True:
    ready, _, _ = select.select([fd, 0], [], [])
    if 0 in ready and not os.read(0, 1024):
        break
    try:
        data = os.read(fd, 65536)
    except OSError:
        break
    os.write(1, data.replace(b"\\r", b""))
os.close(fd)
code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
sys.exit(128 - code if code < 0 else code)
`;

/** A `serve` that runs. */
export interface Serving extends AsyncDisposable {
  /** Id of its own process. */
  readonly pid: number;
  /** Where its control endpoint is. */
  readonly control: string;
  /** What `--json` printed, once it is ready. */
  ready(): Promise<{ readonly url: string; readonly servers: string[]; readonly router: string }>;
  /** Servers and router as the control endpoint tells them. */
  fleet(): Promise<ControlledFleet>;
  /** What it wrote to its error output, line by line. */
  readonly told: readonly string[];
  /** Closes the terminal in which it runs. */
  closeTerminal(): Promise<void>;
  /** Its exit code; that of a signal is 128 more. */
  readonly ended: Promise<number>;
  /** Those of its processes, itself included, that were ever seen by this and that live. */
  processes(): Promise<string[]>;
}

/** Starts it. */
export async function startServing(options: {
  /** Python of the servers; the processes of a fork are not below serve's. */
  readonly python: string;
  readonly args: readonly string[];
  readonly inTerminal?: boolean;
}): Promise<Serving> {
  const port = freePort();
  const command = [
    ...[Deno.execPath(), "run", "-A", "--no-check", "--quiet", program, "serve", "--json"],
    ...["--device=cpu", "--dtype=float32", "--arg=max-total-tokens=8192"],
    ...["--arg=mem-fraction-static=0.1", `--python=${options.python}`],
    ...[`--router-python=${routerPython()}`, `--control-port=${port}`, ...options.args],
  ];
  const [path, ...args] = options.inTerminal ? ["python3", "-c", terminal, ...command] : command;
  const child = new Deno.Command(path!, {
    args,
    env: { ...cpuEnv, NO_COLOR: "1" },
    stdin: options.inTerminal ? "piped" : "null",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  const lines = readLines(child.stdout);
  const told: string[] = [];
  const telling = listen(child.stderr, told);
  const pid = options.inTerminal ? Number((await lines.next()).value) : child.pid;
  let drained: Promise<void> | undefined;
  const control = `http://127.0.0.1:${port}`;
  const seen = new Map<number, string>();
  const processes = async () => {
    const running = await runningProcesses();
    for (const [id, { start }] of running) {
      if (id === pid || isBelow(id, pid, running)) seen.set(id, start);
    }
    return [...seen].filter(([id, start]) => running.get(id)?.start === start)
      .map(([id]) => `${id} ${running.get(id)!.name}`);
  };
  return {
    pid,
    control,
    told,
    processes,
    async ready() {
      for (;;) {
        const { done, value: line } = await lines.next();
        if (done) throw new Error("serve ended before it was ready");
        // A terminal shows the progress too.
        const at = line.indexOf('{"url"');
        if (at < 0) continue;
        // Read on: a terminal that nobody reads stops who writes to it.
        drained = drain(lines);
        return JSON.parse(line.slice(at));
      }
    },
    fleet: () =>
      controlledFleet({ url: control, key: undefined, signal: AbortSignal.timeout(30_000) }),
    closeTerminal: () => child.stdin.close(),
    ended: child.status.then(({ code }) => code),
    async [Symbol.asyncDispose]() {
      for (let tries = 0; (await processes()).length > 0 && tries < 100; tries++) {
        try {
          Deno.kill(pid, "SIGKILL");
        } catch {
          // It has ended; what it started ends too.
        }
        await sleep(100);
      }
      if (options.inTerminal) await child.stdin.close().catch(() => {});
      await child.status;
      await (drained ?? drain(lines));
      await telling;
    },
  };
}

interface RunningProcess {
  readonly parent: number;
  /** When it began: ids are used again. */
  readonly start: string;
  readonly name: string;
}

async function runningProcesses(): Promise<Map<number, RunningProcess>> {
  const found = new Map<number, RunningProcess>();
  for await (const { name: id } of Deno.readDir("/proc")) {
    if (!/^\d+$/.test(id)) continue;
    try {
      const stat = await Deno.readTextFile(`/proc/${id}/stat`);
      const [, name = "", rest = ""] = /^\d+ \((.*)\) (.*)$/s.exec(stat)!;
      const fields = rest.split(" ");
      // One that has ended and was not asked for its end runs no more.
      if (fields[0] === "Z") continue;
      found.set(Number(id), { parent: Number(fields[1]), start: fields[19]!, name });
    } catch {
      // It has just ended.
    }
  }
  return found;
}

function isBelow(id: number, top: number, running: ReadonlyMap<number, RunningProcess>): boolean {
  for (let at = running.get(id)?.parent; at !== undefined; at = running.get(at)?.parent) {
    if (at === top) return true;
  }
  return false;
}

/** Keeps the lines and shows them, for whoever reads why a test failed. */
async function listen(stream: ReadableStream<Uint8Array>, told: string[]): Promise<void> {
  for await (const line of readLines(stream)) {
    told.push(line);
    // deno-lint-ignore no-console -- what serve says belongs to the test's own output
    console.error(line);
  }
}

async function drain(lines: AsyncIterable<string>): Promise<void> {
  for await (const _ of lines);
}
