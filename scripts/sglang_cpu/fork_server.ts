/** Real servers that start in seconds, for runs that start very many of them. */
import { join } from "node:path";
import { withDeadline } from "../../src/internal/deadline.ts";
import { ProcessTree } from "../../src/process/mod.ts";

const READY_MS = 300_000;
const program = new URL("fork_server.py", import.meta.url).pathname;

/**
 * Gives servers of SGLang that start in some three seconds instead of forty: the processes of each
 * are forked from one that has imported SGLang and torch. All else is SGLang's own: its processes,
 * sockets and checkpoints are new with every start, and a kill ends all of them.
 *
 * Linux only. Needs `--allow-run`, `--allow-read` and `--allow-write`.
 */
export class ForkServer implements AsyncDisposable {
  /** Goes where a server's `python` goes. */
  readonly python: string;
  readonly #folder: string;
  readonly #process: ProcessTree;

  private constructor(python: string, folder: string, process: ProcessTree) {
    this.python = python;
    this.#folder = folder;
    this.#process = process;
  }

  /** Imports SGLang, which takes about half a minute. */
  static async start(options: {
    /** Python that has SGLang. */
    readonly python: string;
    readonly env: Readonly<Record<string, string>>;
  }): Promise<ForkServer> {
    const folder = await Deno.makeTempDir({ prefix: "sglang-rl-fork-" });
    await using stack = new AsyncDisposableStack();
    stack.defer(() => Deno.remove(folder, { recursive: true }));
    const socket = join(folder, "socket");
    const ready = Promise.withResolvers<void>();
    const tree = stack.use(
      await ProcessTree.launch({
        command: [options.python, program, "serve", socket],
        env: options.env,
        name: "SGLang's fork server",
        stopGraceMs: 0,
        onLine: (line) => line === "ready" && ready.resolve(),
      }),
    );
    const ended = tree.exited.then(({ logTail }) => Promise.reject(new Error(logTail)));
    ended.catch(() => {});
    await withDeadline(
      { phase: "import SGLang", timeoutMs: READY_MS, peer: "the fork server" },
      () => Promise.race([ready.promise, ended]),
    );
    const python = join(folder, "python");
    await Deno.writeTextFile(
      python,
      "#!/bin/sh\n" +
        `[ "$1" = -m ] || exec '${options.python}' "$@"\n` +
        `exec '${options.python}' -E -S '${program}' run '${socket}' "$@"\n`,
      { mode: 0o755 },
    );
    stack.move();
    return new ForkServer(python, folder, tree);
  }

  /** Ends it, and every server that came from it. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#process.stop();
    await Deno.remove(this.#folder, { recursive: true });
  }
}

/** Starts several; a failure of one leaves none of the others behind. */
export async function startForkServers<Key>(
  pythons: ReadonlyMap<Key, string>,
  env: Readonly<Record<string, string>>,
): Promise<{ readonly pythons: ReadonlyMap<Key, string> } & AsyncDisposable> {
  await using stack = new AsyncDisposableStack();
  const outcomes = await Promise.allSettled(
    [...pythons].map(async ([key, python]) => {
      const fork = stack.use(await ForkServer.start({ python, env }));
      return [key, fork.python] as const;
    }),
  );
  for (const outcome of outcomes) if (outcome.status === "rejected") throw outcome.reason;
  const forked = new Map(
    outcomes.filter((outcome) => outcome.status === "fulfilled").map(({ value }) => value),
  );
  const owned = stack.move();
  return { pythons: forked, [Symbol.asyncDispose]: () => owned.disposeAsync() };
}
