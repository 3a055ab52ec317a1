/** What can go wrong in a sync: each ends in time, in the right error, and the fleet goes on. */
import assert from "node:assert/strict";
import { GlooGroup } from "../../../src/collective/gloo/group.ts";
import { AbortedError, WeightSyncError } from "../../../src/errors.ts";
import type { CollectiveGroup, OpenGroup } from "../../../src/weights/transport/mod.ts";
import { safetensors, tensorDict } from "../../../src/weights/source/mod.ts";
import { SGLangWeightReceiver, type SyncPhase } from "../../../src/weights/mod.ts";
import { fails } from "../../_support/faults.ts";
import { modelPath } from "../../_support/real.ts";
import { type Fleet, greedy, killTrainer } from "../../_support/weights.ts";

const tiny = () => safetensors(modelPath("tiny"));
const tiny1 = () => safetensors(modelPath("tiny1"));
const SERVES_OLD = "all serve the old weights";

/** Registers the tests that leave every server alive. */
export function faults(fleet: () => Fleet): void {
  Deno.test("missing, unknown and changed weights are listed and nothing is sent", async () => {
    await using sender = await fleet().sender();
    await sender.updateWeights(tiny());
    const error = await fails(
      "weights with a missing, an unknown and a misshapen name",
      { code: "validation", message: /not found in weights/, afterwards: SERVES_OLD },
      () =>
        sender.updateWeights(tensorDict({
          "model.norm.weight": { data: new Float32Array(63), shape: [63] },
          "model.norms.weight": { data: new Float32Array(64), shape: [64] },
        })),
    );
    assert.match(
      error.message,
      /'model\.norms\.weight' is unknown.*did you mean 'model\.norm\.weight'/,
    );
    assert.match(
      error.message,
      /expected dtype=\w+, shape=\(64\), got dtype=float32, shape=\(63\)/,
    );
    await fleet().serves("tiny");
  });

  const phases: SyncPhase[] = [
    "probe",
    "source",
    "check",
    "mark",
    "pause",
    "drain",
    "flush",
    "begin",
    "update",
    "end",
    "version",
    "resume",
  ];
  for (const phase of phases) {
    Deno.test(`an AbortSignal in phase ${phase} ends the sync, and the next one repairs`, async () => {
      await using sender = await fleet().sender({ bucketBytes: 300_000 });
      await sender.updateWeights(tiny());
      const stop = new AbortController();
      await fails(
        `the caller aborts in phase \`${phase}\``,
        { code: "aborted", message: /Aborted in phase/, afterwards: "next sync repairs" },
        () =>
          sender.updateWeights(tiny1(), {
            signal: stop.signal,
            onProgress: (progress) => progress.phase === phase && stop.abort(new Error("enough")),
          }),
      ).then((error) => {
        assert.ok(error instanceof AbortedError);
        if (["end", "version", "resume"].includes(phase)) return;
        assert.ok(sender.servers.every(({ paused }) => !paused), JSON.stringify(sender.servers));
      });
      if (sender.servers.every(({ paused, condition }) => !paused && condition === "untouched")) {
        await fleet().serves("tiny");
      }
      await sender.updateWeights(tiny1());
      await fleet().serves("tiny1");
    });
  }

  Deno.test("an abort between buckets keeps half-updated servers paused and marked", async () => {
    await using sender = await fleet().sender({ bucketBytes: 300_000 });
    await sender.updateWeights(tiny());
    const stop = new AbortController();
    const error = await fails(
      "the caller aborts between two buckets",
      { code: "aborted", message: /Aborted/, afterwards: "kept paused until the next sync" },
      () =>
        sender.updateWeights(tiny1(), {
          signal: stop.signal,
          onProgress: ({ bytesDone }) => bytesDone > 0 && stop.abort(),
        }),
    );
    assert.ok(error.cause instanceof WeightSyncError);
    assert.match(error.cause.message, /partly updated, kept paused/);
    for (const { client } of fleet().members) {
      assert.match((await client.modelInfo()).weightVersion ?? "", /^incomplete:/);
    }
    await sender.updateWeights(tiny1());
    await fleet().serves("tiny1");
  });

  Deno.test("a server that refuses a bucket is named, and the others are let go", async () => {
    await using sender = await fleet().sender();
    await sender.updateWeights(tiny());
    await using spoilt = await fleet().sender({ openGroup: spoiling("close"), transport: "gloo" });
    const error = await fails(
      "the connection to the servers breaks within an update",
      { code: "weight_sync", message: /SGLang weight update failed/, afterwards: SERVES_OLD },
      () => spoilt.updateWeights(tiny1()),
    );
    assert.equal(error.phase, "update bucket 1 of 1");
    await fleet().serves("tiny");
    await sender.updateWeights(tiny1());
    await fleet().serves("tiny1");
  });

  Deno.test("a trainer that stalls in an update is cut at the deadline", async () => {
    await using sender = await fleet().sender({
      openGroup: spoiling("stall"),
      transport: "gloo",
      deadlines: { updateMs: 1500 },
    });
    const error = await fails(
      "a broadcast stalls",
      { code: "weight_sync", message: /Timed out in phase/, afterwards: SERVES_OLD },
      () => sender.updateWeights(tiny()),
    );
    assert.equal(error.phase, "update bucket 1 of 1");
    await fleet().serves("tiny1");
  });

  Deno.test("nobody at the master address: servers are turned away and go on", async () => {
    const error = await fails(
      "nobody listens at the master address",
      { code: "weight_sync", message: /phase "init"/, afterwards: SERVES_OLD },
      () =>
        fleet().sender({
          openGroup: spoiling("wrong port"),
          transport: "gloo",
          deadlines: { initMs: 2000, destroyMs: 20_000 },
        }),
    );
    assert.equal(error.phase, "init");
    await fleet().serves("tiny1");
    await using sender = await fleet().sender();
    await sender.updateWeights(tiny());
    await fleet().serves("tiny");
  });

  Deno.test("a group name that is taken is refused, and can be used again once destroyed", async () => {
    const [first] = fleet().members;
    await using receiver = new SGLangWeightReceiver({ workers: [first!.url] });
    await using taken = await join(receiver, "taken");
    const error = await fails(
      "a group name that the server already has",
      { code: "weight_sync", message: /already been created|phase "init"/, afterwards: SERVES_OLD },
      () => join(receiver, "taken"),
    );
    assert.equal(error.server, first!.url);
    await receiver.destroy();
    await taken.close();
    await using again = await join(receiver, "taken");
    await receiver.destroy();
    await again.close();
    await fleet().serves("tiny", [first!]);
  });

  Deno.test("two trainers at once take turns", async () => {
    await using one = await fleet().sender();
    await using two = await fleet().sender();
    const reports = await Promise.all([
      one.updateWeights(tiny1()),
      two.updateWeights(tiny1()),
      one.updateWeights(tiny1()),
    ]);
    const versions = reports.map(({ version }) => Number(version)).sort((a, b) => a - b);
    assert.deepEqual(versions, [versions[0], versions[0]! + 1, versions[0]! + 2]);
    await one.updateWeights(tiny1());
    await fleet().serves("tiny1");
  });

  Deno.test("a second updateWeights waits, or throws where that is wanted", async () => {
    await using patient = await fleet().sender();
    const [first, second] = await Promise.all([
      patient.updateWeights(tiny()),
      patient.updateWeights(tiny1()),
    ]);
    assert.equal(Number(second.version), Number(first.version) + 1);
    await fleet().serves("tiny1");
    await using strict = await fleet().sender({ whenBusy: "throw" });
    const running = strict.updateWeights(tiny());
    await assert.rejects(strict.updateWeights(tiny1()), { code: "state" });
    await running;
    await fleet().serves("tiny");
  });

  for (const moment of ["idle", "in_session", "between"] as const) {
    Deno.test(`our process killed (-9) ${moment}: a new trainer repairs the fleet`, async () => {
      await killTrainer(fleet().members, moment);
      const from = performance.now();
      await using sender = await fleet().sender();
      const report = await sender.updateWeights(tiny1());
      assert.ok(performance.now() - from < 30_000);
      assert.equal(report.servers.length, 2);
      await fleet().serves("tiny1");
      assert.equal(await greedy(fleet().members[0]!), fleet().expected.tiny1);
    });
  }
}

/** A gloo group that misbehaves. */
function spoiling(how: "close" | "stall" | "wrong port"): OpenGroup {
  return async (options, call) => {
    const group: CollectiveGroup = await GlooGroup.open(options, call);
    if (how === "close") group.broadcast = () => group.abort(new Error("spoilt"));
    if (how === "stall") group.broadcast = () => new Promise(() => {});
    if (how !== "wrong port") return group;
    using free = Deno.listen({ hostname: "127.0.0.1", port: 0 });
    const masterPort = free.addr.port;
    return new Proxy(group, {
      get(target, key) {
        if (key === "masterPort") return masterPort;
        const value = Reflect.get(target, key);
        return typeof value === "function" ? value.bind(target) : value;
      },
    });
  };
}

async function join(receiver: SGLangWeightReceiver, groupName: string): Promise<CollectiveGroup> {
  await receiver.probe();
  const stop = new AbortController();
  const call = { signal: stop.signal };
  const group = await GlooGroup.open({
    masterAddress: "127.0.0.1",
    masterPort: 0,
    groupName,
    worldSize: receiver.worldSize,
  }, call);
  const { masterAddress, masterPort } = group;
  const connecting = group.connect(call);
  connecting.catch(() => {});
  try {
    await receiver.initGroup({ masterAddress, masterPort, groupName, backend: "gloo" });
    await connecting;
    return group;
  } catch (error) {
    stop.abort(error);
    await group.abort(error as Error);
    throw error;
  }
}
