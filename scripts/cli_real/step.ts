/** One command of docs/cli.md, how it is run, and how it should end. */
import { jsonKeys } from "../../tests/_support/json_keys.ts";

/** What is run and what is expected of it. */
export interface Step {
  /** A line for bash; `$ROUTER`, `$A` and `$B` are the addresses of the servers. */
  readonly run: string;
  /** The exit code that the page tells. Default 0. */
  readonly code?: number;
  /** What the output must have in it. */
  readonly out?: RegExp;
  /** What the error output must have in it. */
  readonly err?: RegExp;
  /** Signal that is sent when it has written `when`, for commands that go on until then. */
  readonly signal?: "SIGINT" | "SIGTERM" | "SIGHUP";
  readonly when?: RegExp;
  /** Run in another shell before the signal; it must end with 0. */
  readonly meanwhile?: string;
  /** Columns of the terminal in which it runs. Default none: a pipe. */
  readonly columns?: number;
}

/** How a step ended. */
export interface StepResult {
  readonly step: Step;
  readonly code: number;
  readonly seconds: number;
  /** What was not as expected. */
  readonly faults: readonly string[];
  readonly said: string;
}

/** Longest run of a step; a restart takes a start of SGLang. */
const STEP_MS = 240_000;

/** Runs a command in a terminal of a width, and passes on what it shows. */
const terminal = `
import fcntl, os, pty, struct, sys, termios
pid, fd = pty.fork()
if pid == 0:
    os.execvp("bash", ["bash", "-c", sys.argv[2]])
fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", 50, int(sys.argv[1]), 0, 0))
os.kill(pid, 28)
while True:
    try: data = os.read(fd, 65536)
    except OSError: break
    if not data: break
    os.write(1, data.replace(b"\\r", b""))
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
`;

/** Runs a step and compares. */
export async function runStep(
  step: Step,
  { cwd, env }: { readonly cwd: string; readonly env: Readonly<Record<string, string>> },
): Promise<StepResult> {
  const began = performance.now();
  const script = step.signal === undefined ? step.run : `exec ${step.run}`;
  const args = step.columns === undefined
    ? ["bash", "-c", `set -o pipefail; ${script}`]
    : ["python3", "-c", terminal, String(step.columns), `sleep 0.2; ${script}`];
  const child = new Deno.Command(args[0]!, {
    args: args.slice(1),
    cwd,
    env: { ...env, NO_COLOR: "1" },
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  const timer = setTimeout(() => child.kill("SIGKILL"), STEP_MS);
  const faults: string[] = [];
  let out = "", err = "", isSeen = false;
  const onText = async () => {
    if (step.signal === undefined || isSeen || !(step.when ?? /./).test(out + err)) return;
    isSeen = true;
    if (step.meanwhile !== undefined) {
      const inner = await runStep({ run: step.meanwhile }, { cwd, env });
      faults.push(...inner.faults.map((fault) => `${step.meanwhile}: ${fault} ${inner.said}`));
    }
    child.kill(step.signal);
  };
  const read = async (stream: ReadableStream<Uint8Array>, keep: (text: string) => void) => {
    for await (const text of stream.pipeThrough(new TextDecoderStream())) {
      keep(text);
      await onText();
    }
  };
  await Promise.all([
    read(child.stdout, (text) => out += text),
    read(child.stderr, (text) => err += text),
  ]);
  const { code } = await child.status;
  clearTimeout(timer);
  const wanted = step.code ?? 0;
  if (code !== wanted) faults.push(`ended with ${code}`);
  if (step.out !== undefined && !step.out.test(out)) faults.push(`the output lacks ${step.out}`);
  if (step.err !== undefined && !step.err.test(err)) faults.push(`the errors lack ${step.err}`);
  if (/\bat .*\.ts:\d+|Uncaught|\(os error/.test(err)) faults.push("an error that is not ours");
  const wide = out.split("\n").find((line) => line.length > (step.columns ?? Infinity));
  if (wide !== undefined) faults.push(`wider than ${step.columns}: ${wide}`);
  if (/^sglang-rl\b.*--json/.test(step.run)) faults.push(...wrongKeys(out));
  return { step, code, seconds: (performance.now() - began) / 1000, faults, said: out + err };
}

/** Keys of JSON lines that are not snake case. */
function wrongKeys(out: string): string[] {
  const lines = out.split("\n").filter((line) => line.startsWith('{"'));
  const wrong = lines.flatMap((line) => jsonKeys(JSON.parse(line)))
    .filter((key) => !/^[a-z0-9_]+$/.test(key));
  return wrong.length === 0 ? [] : [`keys that are no snake case: ${wrong.join(", ")}`];
}
