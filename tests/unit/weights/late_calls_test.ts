/**
 * A trainer that is stopped with a call on its way is overtaken; whatever the call was, it does no
 * harm when it arrives.
 */
import assert from "node:assert/strict";
import type { Clock } from "../../../src/internal/clock.ts";
import type { WeightSyncOptions } from "../../../src/weights/options.ts";
import { SGLangWeightSyncScheme } from "../../../src/weights/mod.ts";
import { stateDict } from "../../../src/weights/source/mod.ts";
import type { OpenTransport } from "../../../src/weights/transport/mod.ts";
import { FakeClock, openCalls } from "../../_support/clock.ts";
import type { SeenRequest } from "../../_support/http_stand_in.ts";
import { recordingGroups, weightsStandIn } from "../../_support/weights_stand_in.ts";

const NAMES = ["a", "b"];
const state = Object.fromEntries(
  NAMES.map((name) => [name, { data: Float32Array.of(1, 2), shape: [2] }]),
);

/** A server with groups and sessions as the versions have them, which holds back one call of A. */
function holdingServer(version: string, holdAt: number) {
  const groups = new Map<string, boolean>();
  const content = new Map<string, string>();
  const reached = Promise.withResolvers<void>();
  const goOn = Promise.withResolvers<void>();
  const seen: string[] = [];
  const server = { isOver: false, isHolding: false, isInSession: false };
  const hasSession = version === "0.5.23";
  const ok = () => Response.json({ success: true, message: "ok" });
  const refuse = (message: string) => Response.json({ success: false, message }, { status: 400 });
  const handler =
    (act: (body: Record<string, unknown>, trainer: string) => Response) =>
    async ({ headers, body, path }: SeenRequest) => {
      const trainer = headers.get("x-trainer")!;
      if (trainer === "A" && seen.push(path) - 1 === holdAt) {
        server.isHolding = true;
        reached.resolve();
        await goOn.promise;
        server.isHolding = false;
      }
      return act(body ?? {}, trainer);
    };
  const load = (body: Record<string, unknown>, trainer: string) => {
    for (const name of body.names as string[]) content.set(name, trainer);
    if (typeof body.weight_version === "string") standIn.weightVersion = body.weight_version;
    return ok();
  };
  const standIn = weightsStandIn({
    "POST /init_weights_update_group": handler(
      ({ group_name: name, backend, world_size: size }) => {
        if (groups.has(String(name))) {
          return refuse("The specified group name has already been created");
        }
        groups.set(String(name), size !== 1 || !String(backend).includes(":"));
        return ok();
      },
    ),
    "POST /destroy_weights_update_group": handler(({ group_name: name }) =>
      groups.delete(String(name)) ? ok() : refuse("The group to be destroyed does not exist.")
    ),
    "POST /update_weights_from_distributed": handler((body, trainer) => {
      const isAlive = groups.get(String(body.group_name));
      if (hasSession && !server.isInSession) return refuse("must run between begin and end");
      if (isAlive === undefined && !hasSession) server.isOver = true;
      return isAlive
        ? load(body, trainer)
        : refuse("No backend type associated with device type cpu");
    }),
    "POST /update_weights_from_tensor": handler((body, trainer) => {
      if (hasSession && !server.isInSession) return refuse("must run between begin and end");
      const names = body.serialized_named_tensors;
      return load({ ...body, names }, trainer);
    }),
    "POST /begin_weight_update": handler(() => {
      if (server.isInSession) return refuse("a weight-update session is already open");
      server.isInSession = true;
      return ok();
    }),
    "POST /end_weight_update": handler(() => {
      const wasIn = server.isInSession;
      server.isInSession = false;
      return wasIn ? ok() : refuse("no weight-update session is open");
    }),
    "POST /update_weight_version": handler((body) => {
      standIn.weightVersion = String(body.new_version);
      return ok();
    }),
    "POST /pause_generation": handler(() => Response.json({ status: "ok" })),
    "POST /continue_generation": handler(() => Response.json({ status: "ok" })),
    "POST /flush_cache": handler(() => new Response("Cache flushed.")),
  }, { version });
  return { standIn, server, seen, content, reached: reached.promise, goOn: goOn.resolve };
}

/** Tensors in the request, without a group. */
const byTensors: OpenTransport = () => ({
  name: "tensors",
  needsSession: true,
  isolates: true,
  isConnected: true,
  connect: () => Promise.resolve(),
  prepare: ({ buckets }) =>
    Promise.resolve(buckets.map(({ tensors, byteLength }, i) => ({
      message: `update ${i}`,
      byteLength,
      send: async ({ servers, whileUpdating, signal }) => {
        for (const server of servers) {
          await whileUpdating(server, async () => {
            await server.client.updateWeightsFromTensor(tensors.map(({ name }) => name), {
              signal,
              weightVersion: server.ownMark,
            });
          });
        }
      },
    }))),
  reset: () => Promise.resolve(),
  abort: () => Promise.resolve(),
  [Symbol.asyncDispose]: () => Promise.resolve(),
});

/** The time of one process, whose timers do not run while it is stopped. */
function processClock(clock: Clock): Clock & { isStopped: boolean } {
  return {
    isStopped: false,
    now: () => clock.now(),
    schedule(delayMs, callback) {
      const look = (): () => void =>
        clock.schedule(delayMs, () => {
          if (this.isStopped) cancel = look();
          else callback();
        });
      let cancel = look();
      return () => cancel();
    },
  };
}

/** Lets A be stopped at one of its calls, B sync, and A go on; returns what became of A. */
async function overtakeAt(version: string, at: number, transport: "gloo" | OpenTransport) {
  using clock = FakeClock.install({ skipUpToMs: 30 });
  using calls = openCalls();
  const { standIn, server, seen, content, reached, goOn } = holdingServer(version, at);
  await using _standIn = standIn;
  const process = processClock(clock);
  const long = 3_600_000;
  const senderOf = (name: string, own: Partial<WeightSyncOptions>) =>
    new SGLangWeightSyncScheme({
      workers: [standIn.url],
      trainer: name,
      env: () => undefined,
      nameCheck: "off",
      bucketBytes: 8,
      transport,
      ...(transport === "gloo" ? { openGroup: recordingGroups().openGroup } : {}),
      headers: { "x-trainer": name },
      deadlines: {
        ...{ beginMs: long, takeoverMs: 3000, pauseMs: long, flushMs: long, initMs: long },
        ...{ readMs: long, updateMs: long, controlMs: long, endMs: long },
      },
      ...own,
    } as WeightSyncOptions).createSender();
  await using a = senderOf("A", { clock: process });
  await using b = senderOf("B", {});
  using _goOn = { [Symbol.dispose]: goOn };
  const isStuck = () => calls.count === (server.isHolding ? 1 : 0);
  const first = a.initAllWorkersGroup().then(() => a.updateWeights(stateDict(state)));
  first.catch(() => {});
  const isHeld = await clock.pass(
    Promise.race([reached.then(() => true), first.then(() => false)]),
    { ms: 500, isStuck },
  );
  if (!isHeld) return undefined;
  process.isStopped = true;
  await b.initAllWorkersGroup();
  const { version: bs } = await clock.pass(b.updateWeights(stateDict(state)), { ms: 500, isStuck });
  assert.equal(standIn.weightVersion, bs);
  await clock.advance(5000);
  process.isStopped = false;
  goOn();
  const ended = await clock.pass(first.then(() => "done", (error) => error), { ms: 500, isStuck });
  const call = seen[at];
  const told = standIn.weightVersion;
  const what = `${version}, call ${at} (${call}): ${told}, ${ended}`;
  assert.equal(server.isOver, false, what);
  // What is told is what is there.
  const holds = [...new Set(NAMES.map((name) => content.get(name)))];
  if (told === bs) {
    assert.deepEqual(holds, ["B"], what);
    // A was done but for its last word, or was told.
    if (ended !== "done") assert.equal(ended.code, "overtaken", what);
  } else if (ended === "done") {
    assert.deepEqual(holds, ["A"], what);
  } else {
    assert.match(told, /^incomplete:/, what);
  }
  return { call: call!, isBs: told === bs };
}

for (
  const [version, transports] of [["0.5.16", ["gloo", byTensors]], ["0.5.23", ["gloo"]]] as const
) {
  for (const transport of transports) {
    const name = transport === "gloo" ? "a group" : "tensors in the request";
    Deno.test(`a call that arrives after another's sync does no harm, whichever it is (${version}, ${name})`, async () => {
      let updates = 0;
      for (let at = 0;; at++) {
        const outcome = await overtakeAt(version, at, transport);
        if (outcome === undefined) break;
        if (!outcome.call.startsWith("/update_weights")) continue;
        updates++;
        // A server that can refuse a late update does, and goes on with B's weights.
        if (transport === "gloo") assert.ok(outcome.isBs);
      }
      assert.equal(updates, NAMES.length);
    });
  }
}
