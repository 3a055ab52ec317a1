/** A name that is no option is refused wherever options are taken, with the nearest that is one. */
import { deepEqual, equal, match, ok, rejects, throws } from "node:assert/strict";
import fc from "fast-check";
import { DeviceExporter, DeviceStage, Keeper, NcclGroup } from "../../../ffi/mod.ts";
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
import {
  EnvironmentPool,
  promptEnvironment,
  toolEnvironment,
} from "../../../src/collector/environments/mod.ts";
import { openCheckpoint, writeSafetensors } from "../../../src/checkpoint/mod.ts";
import { GlooPeer } from "../../../src/collective/gloo/mod.ts";
import { openDashboard, plotSvg } from "../../../src/dashboard/mod.ts";
import { datasetOf, huggingFaceDataset } from "../../../src/datasets/mod.ts";
import { Follower, publishDelta } from "../../../src/delta/mod.ts";
import { EmbeddedServer, makeTinyCheckpoint } from "../../../src/embedded/mod.ts";
import { AsyncSGLang } from "../../../src/engine/mod.ts";
import { ValidationError } from "../../../src/errors.ts";
import { kubernetesManifests, slurmScript } from "../../../src/fleet/launch/mod.ts";
import { evaluate } from "../../../src/evaluation/mod.ts";
import {
  FleetControl,
  FleetSupervisor,
  serversInDns,
  serversInFile,
  serversInKubernetes,
  serversInSlurm,
} from "../../../src/fleet/mod.ts";
import { agentCommand, RecordingGateway, stalenessLimit } from "../../../src/gateway/mod.ts";
import { checkOptionNames, onlyNamed } from "../../../src/internal/option_names.ts";
import { RecordedChatModel } from "../../../src/langchain/mod.ts";
import { connectMcp, mcpEnvironment } from "../../../src/mcp/mod.ts";
import { SGLangWrapper } from "../../../src/policy/mod.ts";
import { serverAnswerReader } from "../../../src/policy/chat.ts";
import { ProcessTree, reservePorts } from "../../../src/process/mod.ts";
import { klReward, scoreRows } from "../../../src/reference/mod.ts";
import { TCPStoreClient, TCPStoreServer } from "../../../src/rendezvous/mod.ts";
import { SGLangRouter } from "../../../src/router/mod.ts";
import { readRollout } from "../../../src/rollout_file/mod.ts";
import { runSandboxed, sandboxEnvironment } from "../../../src/sandbox/mod.ts";
import { assignGpus, makeSGLangServer } from "../../../src/server/mod.ts";
import { Monitor } from "../../../src/telemetry/mod.ts";
import {
  compareLogProbs,
  groupAdvantages,
  importanceWeights,
  klPenalty,
} from "../../../src/training/mod.ts";
import { SGLangWeightSyncScheme } from "../../../src/weights/mod.ts";
import { float8Blocks } from "../../../src/weights/source/mod.ts";

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
  call: () => new SGLangClient({ url: "http://a" }).health({ timeoutms: 1 } as never),
  generate: () =>
    new SGLangClient({ url: "http://a" }).generate({ text: "a" }, { signl: 1 } as never),
  pause: () => new SGLangClient({ url: "http://a" }).pause("abort", { timeoutms: 1 } as never),
  "call of a policy": () => new SGLangWrapper("http://a").call({}, { timeoutms: 1 } as never),
  evaluate: () => evaluate({} as never, { policy: {}, tasks: 1, samplesPerTasks: 2 } as never),
  mcp: () => connectMcp({}, { callTimeoutms: 1 } as never),
  "mcp environment": () => mcpEnvironment({ servers: {}, promts: [] } as never),
  sandbox: () => runSandboxed("", { timeoutms: 1 } as never),
  "sandbox environment": () => sandboxEnvironment({ prompts: ["a"], trys: 1 } as never),
  "prompt environment": () => promptEnvironment({ prompts: ["a"], rewrd: () => 1 } as never),
  "tool environment": () => toolEnvironment({ prompts: ["a"], tool: {} } as never),
  rollout: () => LLMCollector.prototype.rollout.call({} as never, { timeoutms: 1 } as never),
  session: () => RecordingGateway.prototype.open.call({} as never, { limit: {} } as never),
  "agent command": () => agentCommand("true", { arg: [] } as never),
  "importance weights": () => importanceWeights([], { uper: 2 } as never),
  gloo: () => GlooPeer.join({ masterAdress: "127.0.0.1" } as never),
  "nccl group": () => NcclGroup.open({ worldsize: 2 } as never),
  keeper: () => Keeper.start({ timeoutms: 2 } as never),
  exporter: () => DeviceExporter.open({ devic: 0 } as never),
  stage: () => DeviceStage.open({ devic: 0 } as never),
  dns: () => serversInDns("a", { prt: 1 } as never),
  file: () => serversInFile("a", { intervalms: 1 } as never),
  slurm_jobs: () => serversInSlurm({ jobname: "a" } as never),
  kubernetes_service: () => serversInKubernetes({ service: "a", portname: "b" } as never),
  dataset: () => datasetOf([], { maxRow: 1 } as never),
  "hugging face": () => huggingFaceDataset("/nowhere", { splt: "a" } as never),
  monitor: () => new Monitor({ engin: {} } as never),
  plot: () => plotSvg([], { title: "a", widht: 1 } as never),
  "update of an adapter": () =>
    new LoraSyncScheme({ serverUrl: "http://a" }).createSender().updateAdapter("/a", {
      nam: "a",
    } as never),
  "update of weights": () =>
    new SGLangWeightSyncScheme({ serverUrl: "http://a" }).createSender().updateWeights({}, {
      versin: "a",
    } as never),
  float8: () => float8Blocks({}, { selct: () => true } as never),
  "rollout file": () => readRollout("/nowhere", { maxRow: 1 } as never),
  checkpoint: () => openCheckpoint("/nowhere", { maxFile: 1 } as never),
  "written checkpoint": () => writeSafetensors("/nowhere/a", [], { metdata: {} } as never),
  "connected router": () => SGLangRouter.connect("http://a", { apikey: "a" } as never),
  "router call": () => SGLangRouter.connect("http://a").workers({ timeoutms: 1 } as never),
  ports: () => reservePorts({ count: 1, spn: 2 } as never),
  gpus: () => assignGpus({ replicas: 1, tpsize: 2 } as never),
  "answer reader": () => serverAnswerReader({ server: {}, toolcallParser: "a" } as never),
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
