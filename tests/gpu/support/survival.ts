/** What the tests of `survival_test.ts` and `fleets_test.ts` have in common. */
import type { GivenOptions, WeightSyncOptions } from "../../../src/weights/options.ts";
import { deepEqual, ok } from "node:assert/strict";
import { safetensors, type WeightSource } from "../../../src/weights/source/mod.ts";
import { type SGLangWeightSender, SGLangWeightSyncScheme } from "../../../src/weights/mod.ts";
import { libraries, record, stderrLogger } from "./gpu.ts";
import { folderOf } from "./multi_fleet.ts";
import type { Position } from "./positions.ts";
import { Server } from "./server.ts";

export const MIB = 2 ** 20;
export const folders = { a: folderOf("q05b", "a"), b: folderOf("q05b", "b") };
export const quiet = { ...stderrLogger, debug: () => {} };
export const seconds = (ms: number) => Number((ms / 1000).toFixed(2));

/** A server whose process group can be killed: `http://host:port@pid`. */
export interface Victim {
  readonly server: Server;
  readonly pid: number;
}

export function serversOf(variable: string): Server[] {
  return (Deno.env.get(variable) ?? "").split(" ").filter(Boolean).map((url) => new Server(url));
}

export function victims(): Victim[] {
  return (Deno.env.get("GPU_VICTIMS") ?? "").split(" ").filter(Boolean).map((one) => {
    const [url, pid] = one.split("@");
    return { server: new Server(url!), pid: Number(pid) };
  });
}

export function senderTo(servers: readonly Server[], options: GivenOptions = {}) {
  return new SGLangWeightSyncScheme({
    workers: servers.map(({ url }) => url),
    transport: "nccl",
    // Options of one transport are refused with another.
    ...(options.transport === "cuda-ipc" ? {} : { masterAddress: "127.0.0.1" }),
    nccl: libraries,
    logger: quiet,
    whenUnreachable: "skip",
    ...options,
  } as WeightSyncOptions).createSender();
}

export async function signal(name: string, pid: number): Promise<void> {
  await new Deno.Command("kill", { args: [`-${name}`, "--", `-${pid}`] }).output();
}

/** Greedy tokens of each checkpoint, as every server of it must continue. */
export async function referenceTokens(
  servers: readonly Server[],
): Promise<Record<"a" | "b", string>> {
  const read = async (folder: string) => {
    const body = { model_path: folder, load_format: "auto" };
    await Promise.all(servers.map((server) => server.must("/update_weights_from_disk", body)));
    const tokens = await Promise.all(servers.map((server) => server.tokens()));
    tokens.forEach((one) => deepEqual(one, tokens[0]));
    return String(tokens[0]);
  };
  const b = await read(folders.b);
  return { b, a: await read(folders.a) };
}

/** Milliseconds until every server has used its device, and what each says it holds. */
export async function answersAfter(servers: readonly Server[], from: number) {
  const each = await Promise.all(servers.map(async (server) => {
    for (let i = 0; i < 60; i++) {
      const answer = await server.post("/weights_checker", { action: "checksum" }, 1000)
        .catch(() => undefined);
      if (answer?.status === 200) {
        const afterMs = performance.now() - from;
        const info = await (await fetch(`${server.url}/model_info`)).json();
        const generated = await server.post("/generate", {
          input_ids: [5, 6, 7],
          sampling_params: { temperature: 0, max_new_tokens: 4, ignore_eos: true },
        }, 1500).then(({ status }) => status === 200, () => false);
        const version = String(info.weight_version);
        return { afterS: seconds(afterMs), version: version.slice(0, 20), generates: generated };
      }
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
    return { afterS: Infinity, version: "", generates: false };
  }));
  return each;
}

/** Milliseconds until every server generates again, asked while the sync still runs. */
export async function servingAfter(servers: readonly Server[], from: number) {
  return await Promise.all(servers.map(async (server) => {
    // Held by the server while it is paused, and answered when it is resumed.
    const { status } = await server.post("/generate", {
      input_ids: [5, 6, 7],
      sampling_params: { temperature: 0, max_new_tokens: 4, ignore_eos: true },
    }, 40_000);
    const afterS = seconds(performance.now() - from);
    const info = await (await fetch(`${server.url}/model_info`)).json();
    return { afterS, version: String(info.weight_version).slice(0, 20), generates: status === 200 };
  }));
}

/** What a death left: the others' answers, and whether the next sync brings everybody along. */
export async function afterwards(
  what: string,
  at: Position | "open",
  state: {
    readonly others: readonly Server[];
    readonly all: readonly Server[];
    readonly from: number;
    readonly error: string;
    readonly tokens: string;
    readonly sender: SGLangWeightSender | undefined;
  },
): Promise<void> {
  const answers = await answersAfter(state.others, state.from);
  const errorMs = performance.now() - state.from;
  const next = await (async () => {
    const fresh = state.sender ?? senderTo(state.all);
    try {
      if (state.sender === undefined) await fresh.initAllWorkersGroup();
      const { durationMs } = await fresh.updateWeights(safetensors(folders.a));
      const tokens = await Promise.all(state.others.map((server) => server.tokens()));
      return {
        ms: Math.round(durationMs),
        right: tokens.map((one) => String(one) === state.tokens),
      };
    } catch (error) {
      return { ms: -1, right: [false], error: (error as Error).message.slice(0, 300) };
    } finally {
      if (state.sender === undefined) await fresh.close();
    }
  })();
  record("survival", { what, at, error: state.error.slice(0, 200), answers, next, errorMs });
  ok(answers.every(({ afterS }) => afterS <= 10), `${what} ${at}: ${JSON.stringify(answers)}`);
  ok(next.right.every((one) => one), `${what} ${at}: ${JSON.stringify(next)}`);
}

/** Runs a sync to checkpoint b and gives the words of its error. */
export async function failing(
  sender: SGLangWeightSender,
  source: WeightSource,
  options: Parameters<SGLangWeightSender["updateWeights"]>[1],
): Promise<string> {
  return await sender.updateWeights(source, options).then(
    ({ skipped }) => `no error, skipped ${skipped.length}`,
    (error: Error) => `${error.name}: ${error.message}`,
  );
}

/** A checkpoint of which one read fails, or never ends. */
export function faulty(folder: string, share: number, how: "fails" | "stalls"): WeightSource {
  const inner = safetensors(folder);
  return {
    label: `a source that ${how}`,
    async open(options) {
      const open = await inner.open(options);
      const last = Math.min(open.tensors.length - 1, Math.floor(open.tensors.length * share));
      return {
        ...open,
        tensors: open.tensors,
        readsAtOnce: open.readsAtOnce,
        view: (index) => open.view(index),
        async read(index, target, call) {
          if (index === last && how === "stalls") await new Promise(() => {});
          if (index === last) throw new Error("the disk is gone");
          await open.read(index, target, call);
        },
        [Symbol.asyncDispose]: () => open[Symbol.asyncDispose](),
      };
    },
  };
}
