import { EmbeddedServer, makeTinyCheckpoint } from "../../src/embedded/mod.ts";
import { readLines } from "../../src/internal/lines.ts";
import { modelPath, startForks, startRealServer } from "../../tests/_support/real.ts";

/** Two servers in processes of their own, and two checkpoints for them. */
export interface SoakServers extends AsyncDisposable {
  readonly kind: string;
  readonly urls: readonly string[];
  readonly checkpoints: readonly [string, string];
  /** Their processes, whose memory is not the collector's. */
  readonly pids: readonly number[];
}

/** Runs two embedded servers and prints their addresses; for a process of its own. */
export async function serveEmbedded(folders: readonly string[]): Promise<void> {
  for (const _ of [0, 1]) {
    const server = await EmbeddedServer.start({ model: folders[0]! });
    // deno-lint-ignore no-console
    console.log(server.url);
  }
}

/** Starts this program again for two embedded servers. */
export async function startEmbedded(): Promise<SoakServers> {
  await using stack = new AsyncDisposableStack();
  const folder = await Deno.makeTempDir();
  stack.defer(() => Deno.remove(folder, { recursive: true }));
  const checkpoints = [`${folder}/a`, `${folder}/b`] as const;
  for (const [seed, path] of checkpoints.entries()) await makeTinyCheckpoint(path, { seed });
  const child = new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", "--no-check", Deno.mainModule, "serve", ...checkpoints],
    stdout: "piped",
  }).spawn();
  stack.defer(async () => {
    child.kill("SIGTERM");
    await child.status;
  });
  const urls: string[] = [];
  for await (const line of readLines(child.stdout)) {
    if (line.startsWith("http")) urls.push(line);
    if (urls.length === 2) {
      return owned("embedded", { urls, checkpoints, pids: [child.pid] }, stack);
    }
  }
  throw new Error("the servers did not start");
}

/** Starts two real servers, one of each version. */
export async function startReal(): Promise<SoakServers> {
  await using stack = new AsyncDisposableStack();
  const versions = ["0.5.16", "0.5.23"] as const;
  const forks = stack.use(await startForks(versions));
  const urls: string[] = [];
  const pids: number[] = [];
  for (const version of versions) {
    const python = forks.pythons.get(version)!;
    const server = stack.use(await startRealServer({ version, python }));
    urls.push(server.url);
    pids.push(server.pid);
  }
  const checkpoints = [modelPath("tiny"), modelPath("tiny1")] as const;
  return owned(`real ${versions.join(" and ")}`, { urls, checkpoints, pids }, stack);
}

function owned(
  kind: string,
  about: Pick<SoakServers, "urls" | "checkpoints" | "pids">,
  stack: AsyncDisposableStack,
): SoakServers {
  const kept = stack.move();
  return { kind, ...about, [Symbol.asyncDispose]: () => kept.disposeAsync() };
}
