/** Two real servers of different versions, whose weights the tests change, and what they say. */
import type { GivenOptions, WeightSyncOptions } from "../../src/weights/options.ts";
import assert from "node:assert/strict";
import { SGLangClient } from "../../src/client/client.ts";
import type { Generation } from "../../src/client/types.ts";
import { SGLangWeightSyncScheme } from "../../src/weights/mod.ts";
import { modelPath, type SGLangVersion, type TinyModel } from "./real.ts";

const PROMPT = [10, 20, 30, 40];
const TOKENS = 12;
const PLAN = [
  { version: "0.5.16", model: "tiny" },
  { version: "0.5.23", model: "tiny1" },
] as const;

/** A server of the fleet. */
export interface Member {
  readonly version: SGLangVersion;
  readonly url: string;
  readonly client: SGLangClient;
  /** Absent when the server was given from outside. */
  readonly pid: number | undefined;
}

/** The servers, started once, and the greedy continuation that each checkpoint gives. */
export class Fleet implements AsyncDisposable {
  readonly members: readonly Member[];
  readonly expected: Readonly<Record<"tiny" | "tiny1", string>>;
  readonly #owner: Deno.ChildProcess | undefined;

  private constructor(
    members: readonly Member[],
    expected: Fleet["expected"],
    owner: Deno.ChildProcess | undefined,
  ) {
    this.members = members;
    this.expected = expected;
    this.#owner = owner;
  }

  /** Starts a server of 0.5.16 with `tiny` and one of 0.5.23 with `tiny1`. */
  static async start(): Promise<Fleet> {
    const given = Deno.env.get("SGLANG_RL_OWN_SERVERS")?.split(",");
    const owner = given === undefined ? spawnServers() : undefined;
    const servers: readonly { url: string; pid?: number }[] = owner === undefined
      ? given!.map((url) => ({ url }))
      : JSON.parse(await firstLine(owner));
    const members = servers.map(({ url, pid }, i) => ({
      version: PLAN[i]!.version,
      url,
      pid,
      // Used by all tests of a file, each of which must leave no connection open.
      client: new SGLangClient({ url, vocabSize: 1024, maxIdleConnections: 0 }),
    }));
    if (given) await loadFromDisk(members);
    const [tiny, tiny1] = await Promise.all(members.map((member) => greedy(member)));
    assert.notEqual(tiny, tiny1);
    return new Fleet(members, { tiny: tiny!, tiny1: tiny1! }, owner);
  }

  /** Addresses of both. */
  get urls(): string[] {
    return this.members.map(({ url }) => url);
  }

  /** A sender to both, or as the options say, with short deadlines. */
  async sender(options: GivenOptions = {}) {
    const servers = options.workers ?? this.urls;
    const scheme = new SGLangWeightSyncScheme({
      ...options,
      workers: servers,
      deadlines: { beginMs: 3000, destroyMs: 4000, ...options.deadlines },
    } as WeightSyncOptions);
    const sender = scheme.createSender();
    try {
      await sender.initAllWorkersGroup();
      return sender;
    } catch (error) {
      await sender.close();
      throw error;
    }
  }

  /** Requires that every server (or those given) generates as the checkpoint does. */
  async serves(model: TinyModel & ("tiny" | "tiny1"), members = this.members): Promise<void> {
    for (const member of members) {
      assert.equal(await greedy(member), this.expected[model], `${member.url} as ${model}`);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const { client } of this.members) client.close();
    await this.#owner?.stdin.close();
    await this.#owner?.status;
  }
}

function spawnServers(): Deno.ChildProcess {
  const script = new URL("./weights_servers.ts", import.meta.url).pathname;
  return new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", script, JSON.stringify(PLAN)],
    stdin: "piped",
    stdout: "piped",
  }).spawn();
}

async function firstLine(child: Deno.ChildProcess): Promise<string> {
  const reader = child.stdout.getReader();
  const { value } = await reader.read();
  await reader.cancel();
  return new TextDecoder().decode(value).trim();
}

/** The greedy continuation of one prompt, computed without any cached prefix. */
export async function greedy(member: Pick<Member, "client">): Promise<string> {
  const sample = await member.client.generate({
    inputIds: PROMPT,
    samplingParams: { temperature: 0, maxNewTokens: TOKENS, ignoreEos: true },
    extraKey: crypto.randomUUID(),
  }, { timeoutMs: 20_000 });
  return sample.ids.join(" ");
}

/** Keeps `count` long generations running on a server until it is stopped; tells how all ended. */
export function keepGenerating(member: Member, count: number) {
  const done: Generation[] = [];
  const stop = new AbortController();
  const workers = Array.from({ length: count }, async (_, i) => {
    while (!stop.signal.aborted) {
      done.push(
        await member.client.generate({
          inputIds: [i + 1, 2, 3],
          samplingParams: { maxNewTokens: 60, temperature: 1, ignoreEos: true },
          extraKey: crypto.randomUUID(),
        }, { timeoutMs: 60_000 }),
      );
    }
  });
  return {
    /** What was generated until now, once the last requests have ended. */
    async stop(): Promise<Generation[]> {
      stop.abort();
      await Promise.all(workers);
      return done;
    },
    // So that a test that fails leaves the next one nothing.
    async [Symbol.asyncDispose](): Promise<void> {
      stop.abort();
      await Promise.allSettled(workers);
    },
  };
}

async function loadFromDisk(members: readonly Member[]): Promise<void> {
  const [first, second] = members;
  for (const { client } of members) await client.resume();
  await first!.client.updateWeightsFromDisk(modelPath("tiny"));
  await second!.client.updateWeightsFromDisk(modelPath("tiny1"));
}

/** Runs a trainer in a process of its own and kills it (-9) at the given moment of a sync. */
export async function killTrainer(
  members: readonly Member[],
  moment: "idle" | "in_session" | "between" | "payload",
): Promise<void> {
  const child = new Deno.Command(Deno.execPath(), {
    args: [
      "run",
      "-A",
      new URL("./weights_child.ts", import.meta.url).pathname,
      members.map(({ url }) => url).join(","),
      modelPath("tiny"),
      moment,
    ],
    stdout: "piped",
  }).spawn();
  assert.equal(await firstLine(child), moment);
  child.kill("SIGKILL");
  await child.status;
}
