/** A name that is no option is refused wherever options are taken, with the nearest that is one. */
import { deepEqual, equal, match, ok, rejects, throws } from "node:assert/strict";
import fc from "fast-check";
import { LoraSyncScheme } from "../../../src/adapters/mod.ts";
import { languageModel } from "../../../src/ai/mod.ts";
import { SGLangClient } from "../../../src/client/mod.ts";
import { CLIENT_OPTION_NAMES } from "../../../src/client/options.ts";
import {
  LLMCollector,
  ReplayBuffer,
  ResumingEngine,
  writeJsonLines,
} from "../../../src/collector/mod.ts";
import { EnvironmentPool } from "../../../src/collector/environments/mod.ts";
import { openDashboard } from "../../../src/dashboard/mod.ts";
import { Follower, publishDelta } from "../../../src/delta/mod.ts";
import { EmbeddedServer, makeTinyCheckpoint } from "../../../src/embedded/mod.ts";
import { AsyncSGLang } from "../../../src/engine/mod.ts";
import { ValidationError } from "../../../src/errors.ts";
import { kubernetesManifests, slurmScript } from "../../../src/fleet/launch/mod.ts";
import { FleetControl, FleetSupervisor } from "../../../src/fleet/mod.ts";
import { RecordingGateway, stalenessLimit } from "../../../src/gateway/mod.ts";
import { checkOptionNames, onlyNamed } from "../../../src/internal/option_names.ts";
import { RecordedChatModel } from "../../../src/langchain/mod.ts";
import { ProcessTree } from "../../../src/process/mod.ts";
import { klReward, scoreRows } from "../../../src/reference/mod.ts";
import { TCPStoreClient, TCPStoreServer } from "../../../src/rendezvous/mod.ts";
import { SGLangRouter } from "../../../src/router/mod.ts";
import { makeSGLangServer } from "../../../src/server/mod.ts";
import { compareLogProbs, groupAdvantages, klPenalty } from "../../../src/training/mod.ts";
import { SGLangWeightSyncScheme } from "../../../src/weights/mod.ts";

/** Everything that takes options, given one with a letter too many. */
const doors: Readonly<Record<string, () => unknown>> = {
  SGLangClient: () => new SGLangClient({ url: "http://a", timeoutMss: 1 } as never),
  retry: () => new SGLangClient({ url: "http://a", retry: { retriess: 1 } } as never),
  connect: () => AsyncSGLang.connect("http://a", { maxConcurency: 1 } as never),
  fromPretrained: () => AsyncSGLang.fromPretrained("m", { numReplica: 1 } as never),
  server: () => makeSGLangServer({ model: "m", tpsize: 1 } as never),
  router: () => SGLangRouter.launch({ workers: [], policyy: 1 } as never),
  weights: () => new SGLangWeightSyncScheme({ serverUrl: "http://a", pauseMod: "abort" } as never),
  deadlines: () =>
    new SGLangWeightSyncScheme({ serverUrl: "http://a", deadlines: { initSecs: 1 } } as never),
  disk: () => new SGLangWeightSyncScheme({ serverUrl: "http://a", disk: { foldr: "x" } } as never),
  nccl: () =>
    new SGLangWeightSyncScheme({ serverUrl: "http://a", nccl: { cudarts: "x" } } as never),
  process: () => ProcessTree.launch({ command: ["true"], stopGraceMS: 1 } as never),
  embedded: () => EmbeddedServer.start({ model: "m", sed: 1 } as never),
  store: () => TCPStoreServer.listen({ hostnam: "127.0.0.1" } as never),
  "store client": () =>
    TCPStoreClient.connect({ hostname: "127.0.0.1", port: 1, keyPrefi: "/" } as never),
  adapters: () => new LoraSyncScheme({ serverUrl: "http://a", kep: 1 } as never),
  follower: () => new Follower({ store: "a", folder: "b", pollms: 1 } as never),
  publish: () => publishDelta("/nowhere", "/nowhere", { version: "v", keepwhole: 1 } as never),
  dashboard: () => openDashboard({ hostnam: "127.0.0.1" } as never),
  "fleet control": () => FleetControl.start({} as never, { prt: 0 } as never),
  "fleet supervisor": () => FleetSupervisor.start({} as never, { missedLimt: 3 } as never),
  kubernetes: () => kubernetesManifests({ model: "m", replica: 1 } as never),
  slurm: () => slurmScript({ model: "m", partitions: "p" } as never),
  advantages: () => groupAdvantages([1], [1], { scal: "std" } as never),
  mismatch: () => compareLogProbs([], { newestVersions: "1" } as never),
  "kl penalty": () => klPenalty([0], [0], { coefficient: 1, estimatr: "k1" } as never),
  "kl reward": () => klReward({ coeficient: 1 } as never),
  "score rows": () => scoreRows([], {} as never, { timeoutms: 1 } as never),
  "replay buffer": () => new ReplayBuffer({ capacity: 1, radom: Math.random } as never),
  "resuming engine": () => new ResumingEngine({} as never, { maxResume: 1 } as never),
  pool: () => new EnvironmentPool(() => ({}) as never, { size: 1, maxConcurency: 1 } as never),
  collector: () => new LLMCollector({} as never, { totalDialogsx: 1 } as never),
  "json lines": () => writeJsonLines("/nowhere", {} as never, { apend: true } as never),
  "staleness limit": () => stalenessLimit({ maxStalenes: 1 } as never),
  gateway: () => RecordingGateway.listen({} as never, { hostnam: "127.0.0.1" } as never),
  "tiny checkpoint": () => makeTinyCheckpoint("/nowhere", { sed: 1 } as never),
  langchain: () => new RecordedChatModel({ gatway: {} } as never),
  ai: () => languageModel({} as never, { modl: "m" } as never),
};

for (const [name, open] of Object.entries(doors)) {
  Deno.test(`an unknown option is refused with the nearest known one: ${name}`, async () => {
    const failure = await Promise.resolve().then(open).then(() => undefined, (error) => error);
    ok(failure instanceof ValidationError, String(failure));
    match(failure.message, /^Unknown option "\w+" of .*; did you mean "\w+"\?/);
  });
}

Deno.test("every known name passes, every other is refused", () => {
  const known = Object.keys(CLIENT_OPTION_NAMES);
  fc.assert(fc.property(fc.array(fc.constantFrom(...known)), (names) => {
    checkOptionNames(
      Object.fromEntries(names.map((one) => [one, undefined])),
      CLIENT_OPTION_NAMES,
      "it",
    );
  }));
  fc.assert(fc.property(fc.string().filter((name) => !known.includes(name)), (name) => {
    throws(
      () => checkOptionNames(Object.fromEntries([[name, 1]]), CLIENT_OPTION_NAMES, "it"),
      ValidationError,
    );
  }));
});

Deno.test("names of all objects are no options", () => {
  for (const name of ["constructor", "toString", "hasOwnProperty"]) {
    throws(() => checkOptionNames({ [name]: 1 }, { url: true }, "it"), /Unknown option/);
  }
});

Deno.test("options of a part are taken out of those of the whole", () => {
  deepEqual(onlyNamed({ a: 1, b: 2 }, { b: true, c: true }), { b: 2 });
});

Deno.test("an explicit option beats the environment", async () => {
  const { resolveOptions } = await import("../../../src/weights/resolved_options.ts");
  const env = (name: string) => name.endsWith("MODE") ? "retract" : "1";
  const chosen = resolveOptions({
    serverUrl: "http://a",
    pauseMode: "abort",
    flushCache: false,
    env,
  });
  equal(chosen.pauseMode, "abort");
  equal(chosen.flushCache, false);
  const both = resolveOptions({ serverUrl: "http://a", pauseMode: "abort", env });
  equal(both.flushCache, true);
  await rejects(
    Promise.resolve().then(() => resolveOptions({ serverUrl: "http://a", flushCache: true, env })),
    /requires pauseMode 'abort', got 'retract'/,
  );
});
