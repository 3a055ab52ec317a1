/** `serve` as a process of its own with the real SGLang, in a pipe or in a terminal. */
import { readLines } from "../../../src/internal/lines.ts";
import { sleep } from "../../../src/internal/deadline.ts";
import { controlledServers } from "../../../src/cli/control_client.ts";
import type { ControlledServer } from "../../../src/fleet/mod.ts";
import { freePort } from "../../_support/free_port.ts";
import { cpuEnv, routerPython } from "../../_support/real.ts";

const program = new URL("../../../src/cli/mod.ts", import.meta.url).pathname;
const MARK = "SGLANG_RL_TEST_MARK";

/** Runs a command in a terminal of its own, which closes with our standard input. */
const terminal = `
import os, pty, select, sys
mark, *command = sys.argv[1:]
pid, fd = pty.fork()
if pid == 0:
    os.environ["${MARK}"] = mark
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
  /** The servers as the control endpoint tells them. */
  fleet(): Promise<ControlledServer[]>;
  /** Closes the terminal in which it runs. */
  closeTerminal(): Promise<void>;
  /** Its exit code; that of a signal is 128 more. */
  readonly ended: Promise<number>;
  /** Command lines of the processes that it started and that are there. */
  processes(): Promise<string[]>;
  /** Id of the router's process. */
  routerPid(): Promise<number | undefined>;
}

/** Starts it. */
export async function startServing(options: {
  /** Python of the servers; with that of a fork, `processes` cannot see them. */
  readonly python: string;
  readonly args: readonly string[];
  readonly inTerminal?: boolean;
}): Promise<Serving> {
  const mark = crypto.randomUUID();
  const port = freePort();
  const command = [
    ...[Deno.execPath(), "run", "-A", "--no-check", "--quiet", program, "serve", "--json"],
    ...["--device=cpu", "--dtype=float32", "--arg=max-total-tokens=8192"],
    ...["--arg=mem-fraction-static=0.1", `--python=${options.python}`],
    ...[`--router-python=${routerPython()}`, `--control-port=${port}`, ...options.args],
  ];
  const [path, ...args] = options.inTerminal
    ? ["python3", "-c", terminal, mark, ...command]
    : command;
  const child = new Deno.Command(path!, {
    args,
    env: { ...cpuEnv, NO_COLOR: "1", ...(options.inTerminal ? {} : { [MARK]: mark }) },
    stdin: options.inTerminal ? "piped" : "null",
    stdout: "piped",
    stderr: "inherit",
  }).spawn();
  const lines = readLines(child.stdout);
  const pid = options.inTerminal ? Number((await lines.next()).value) : child.pid;
  const control = `http://127.0.0.1:${port}`;
  const processes = () => markedProcesses(`${MARK}=${mark}`);
  return {
    pid,
    control,
    processes,
    async routerPid() {
      const router = (await processes()).find((line) => /^\d+ sglang::router/.test(line));
      return router === undefined ? undefined : parseInt(router);
    },
    async ready() {
      for await (const line of lines) {
        // A terminal shows the progress too.
        const at = line.indexOf('{"url"');
        if (at < 0) continue;
        // Read on: a terminal that nobody reads stops who writes to it.
        void (async () => {
          for await (const _ of lines);
        })();
        return JSON.parse(line.slice(at));
      }
      throw new Error("serve ended before it was ready");
    },
    fleet: () =>
      controlledServers({ url: control, key: undefined, signal: AbortSignal.timeout(30_000) }),
    closeTerminal: () => child.stdin.close(),
    ended: child.status.then(({ code }) => code),
    async [Symbol.asyncDispose]() {
      await lines.return(undefined);
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
    },
  };
}

async function markedProcesses(mark: string): Promise<string[]> {
  const found: string[] = [];
  for await (const { name } of Deno.readDir("/proc")) {
    if (!/^\d+$/.test(name)) continue;
    try {
      const environment = await Deno.readTextFile(`/proc/${name}/environ`);
      if (!environment.split("\0").includes(mark)) continue;
      const words = await Deno.readTextFile(`/proc/${name}/cmdline`);
      found.push(`${name} ${words.replaceAll("\0", " ").slice(0, 200)}`);
    } catch {
      // It has just ended.
    }
  }
  return found;
}
