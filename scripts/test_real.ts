/**
 * Runs the tests on the real SGLang: sets it up when it is not there, starts two servers of 0.5.16
 * with a router in front and one of 0.5.23, runs `deno test` on tests/real, and ends all of them. Its
 * servers, and those that tests start by `startRealServer`, are forked from processes that have
 * imported SGLang.
 *
 * Run as `deno task test:real [--version X] [--filter NAME] [--junit-path FILE] [FILE...]`. With
 * `--version` that version is installed, every server and every Python of the tests is of it, and
 * tests whose name tells of another version are ignored. Servers that the variables
 * SGLANG_RL_SERVERS, SGLANG_RL_ROUTER and SGLANG_RL_NEWEST name are used as they are.
 */
// deno-lint-ignore-file no-console
import { parseArgs } from "node:util";
import {
  forkVariable,
  sharedVariables,
  startForks,
  startRealRouter,
  startRealServer,
  versionVariable,
} from "../tests/_support/real.ts";
import { countTests, formatCounts } from "./junit.ts";
import { tokenizersHome } from "./real_tokenizers/home.ts";
import { setUpTokenizers } from "./real_tokenizers/set_up.ts";
import {
  sglangHome,
  type SGLangVersion,
  sglangVersion,
  sglangVersions,
} from "./sglang_cpu/home.ts";
import { setUp } from "./sglang_cpu/set_up.ts";
import { SetupError } from "./sglang_cpu/setup_error.ts";

const otherVersions = new URL("../tests/_support/other_versions.ts", import.meta.url).href;
const usage = "usage: deno task test:real [--version X] [--filter NAME] [--junit-path FILE] " +
  "[FILE...]";

interface Arguments {
  /** The one version that all runs on; `undefined`: each test on those that it names. */
  readonly version: SGLangVersion | undefined;
  readonly filter: string | undefined;
  readonly junitPath: string | undefined;
  readonly files: readonly string[];
}

function readArgs(args: string[]): Arguments {
  const { values, positionals } = parseArgs({
    args,
    allowPositionals: true,
    options: {
      version: { type: "string" },
      filter: { type: "string" },
      "junit-path": { type: "string" },
    },
  });
  const files = positionals.length > 0 ? positionals : ["tests/real"];
  return {
    version: values.version === undefined ? undefined : sglangVersion(values.version),
    filter: values.filter,
    junitPath: values["junit-path"],
    files,
  };
}

/** Addresses for the tests, by variable; disposing ends what was started. */
interface SharedServers extends AsyncDisposable {
  readonly env: Record<string, string>;
}

function givenServers(): SharedServers | undefined {
  const names = Object.values(sharedVariables);
  const set = names.filter((name) => Deno.env.get(name));
  if (set.length === 0) return undefined;
  if (set.length < names.length) {
    throw new SetupError(`Set all of ${names.join(", ")} or none; only ${set.join(", ")} is set`);
  }
  return { env: {}, async [Symbol.asyncDispose]() {} };
}

async function startServers(
  only: SGLangVersion | undefined,
  signal: AbortSignal,
): Promise<SharedServers> {
  await using stack = new AsyncDisposableStack();
  const started = performance.now();
  console.log("starting three servers (about half a minute)");
  const forks = stack.use(await startForks(only === undefined ? sglangVersions : [only]));
  const pythons = new Map(
    sglangVersions.map((version) => [version, forks.pythons.get(only ?? version)!] as const),
  );
  const fork = (version: SGLangVersion) => ({ version, python: pythons.get(version), signal });
  // All are awaited, so that a failure of one leaves none of the others behind.
  const launches = await Promise.allSettled([
    startRealServer(fork("0.5.16")),
    startRealServer(fork("0.5.16")),
    startRealServer(fork("0.5.23")),
  ]);
  const servers = launches.filter((launch) => launch.status === "fulfilled").map((l) => l.value);
  for (const server of servers) stack.use(server);
  const failed = launches.find((launch) => launch.status === "rejected");
  if (failed !== undefined) throw failed.reason;
  const [first, second, newest] = servers as [Server, Server, Server];
  const router = stack.use(await startRealRouter({ workers: [first.url, second.url], signal }));
  const ending = { now: false };
  for (const server of servers) void reportCrash(server, ending);
  stack.defer(() => void (ending.now = true));
  console.log(`servers are ready (${((performance.now() - started) / 1000).toFixed(0)} s)`);
  const owned = stack.move();
  return {
    env: {
      ...Object.fromEntries(
        [...pythons].map(([version, python]) => [forkVariable(version), python]),
      ),
      [sharedVariables.servers]: `${first.url},${second.url}`,
      [sharedVariables.router]: router.url,
      [sharedVariables.newest]: newest.url,
    },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

type Server = Awaited<ReturnType<typeof startRealServer>>;

/** A shared server that dies fails tests that have no part in it: the cause must be seen. */
async function reportCrash(server: Server, ending: { now: boolean }): Promise<void> {
  const exit = await server.exited;
  if (ending.now) return;
  console.error(`the shared server ${server.url} has died; its last lines:\n${exit.logTail}`);
}

async function runTests(
  { version, filter, junitPath, files }: Arguments,
  env: Record<string, string>,
  signal: AbortSignal,
): Promise<boolean> {
  const report = junitPath ?? await Deno.makeTempFile({ suffix: ".xml" });
  try {
    const { success } = await new Deno.Command(Deno.execPath(), {
      args: [
        "test",
        "--allow-all",
        `--junit-path=${report}`,
        ...(version === undefined ? [] : [`--preload=${otherVersions}`]),
        ...(filter === undefined ? [] : [`--filter=${filter}`]),
        ...files,
      ],
      env,
      signal,
    }).spawn().status;
    const xml = await Deno.readTextFile(report).catch(() => "");
    console.log(formatCounts(countTests(xml)));
    return success;
  } finally {
    if (junitPath === undefined) await Deno.remove(report);
  }
}

async function main(): Promise<number> {
  const abort = new AbortController();
  const onInterrupt = () => abort.abort(new SetupError("interrupted"));
  Deno.addSignalListener("SIGINT", onInterrupt);
  try {
    const args = readArgs(Deno.args);
    const { signal } = abort;
    const say = (line: string) => console.log(line);
    const versions = args.version === undefined ? sglangVersions : [args.version];
    if (args.version !== undefined) {
      // The tests and their supports read it, and so do the servers that are started here.
      Deno.env.set(versionVariable, args.version);
      console.log(`all on SGLang ${args.version}`);
    }
    await setUp({ versions, home: sglangHome(), say, signal });
    await setUpTokenizers({ home: tokenizersHome(), say, signal });
    await using shared = givenServers() ?? await startServers(args.version, signal);
    return await runTests(args, shared.env, signal) ? 0 : 1;
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    console.error(`Cannot run the tests on the real SGLang: ${message}`);
    if (error instanceof TypeError) console.error(usage);
    return 1;
  } finally {
    Deno.removeSignalListener("SIGINT", onInterrupt);
  }
}

if (import.meta.main) Deno.exitCode = await main();
