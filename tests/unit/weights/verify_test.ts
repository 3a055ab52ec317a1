/** What proves a landing does not pass wrong weights: a bit flipped, one server behind, another's. */
import { deepEqual, equal, rejects, throws } from "node:assert/strict";
import fc from "fast-check";
import type { WeightSyncError } from "../../../src/errors.ts";
import { onAll } from "../../../src/weights/fleet/on_all.ts";
import { Lease } from "../../../src/weights/fleet/lease.ts";
import type { FleetServer } from "../../../src/weights/fleet/server.ts";
import {
  compareSample,
  probeGreedily,
  requireEqualChecksums,
} from "../../../src/weights/sync/verify.ts";
import { SGLangWeightSyncScheme } from "../../../src/weights/mod.ts";
import { stateDict } from "../../../src/weights/source/mod.ts";
import { silentLogger } from "../../../src/internal/logger.ts";
import { FakeClock, until } from "../../_support/clock.ts";
import { recordingGroups, weightsStandIn } from "../../_support/weights_stand_in.ts";

const call = { phase: "verify", timeoutMs: Infinity };

/** A server of a fleet, as far as the proofs look at it. */
function server(url: string, client: object = {}, tpSize = 1): FleetServer {
  return { url, tpSize, isCpu: true, client } as unknown as FleetServer;
}

Deno.test("servers of equal sharding must have equal checksums; one that is behind is named", () => {
  const servers = [server("a"), server("b"), server("c", {}, 2), server("d")];
  requireEqualChecksums(servers, ["1", "1", "9", "1"], "verify");
  fc.assert(fc.property(fc.constantFrom(1, 3), (behind) => {
    const sums = ["1", "1", "9", "1"].map((sum, i) => i === behind ? "0" : sum);
    throws(() => requireEqualChecksums(servers, sums, "verify"), {
      code: "weight_sync",
      server: servers[behind]!.url,
    });
  }));
});

Deno.test("a server that continues the probe otherwise, or under another version, is named", async () => {
  const answering = (ids: number[], weightVersion = "v") => ({
    generate: () => Promise.resolve({ ids: Int32Array.from(ids), weightVersion }),
  });
  const good = server("a", answering([1, 2]));
  deepEqual([...await probeGreedily([good, server("b", answering([1, 2]))], "v", call)], [1, 2]);
  for (const other of [answering([1, 3]), answering([1]), answering([1, 2], "old")]) {
    await rejects(probeGreedily([good, server("b", other)], "v", call), { server: "b" });
  }
});

Deno.test("a value that differs by more than bfloat16 rounds is noticed, at every position", async () => {
  const values = Float32Array.from({ length: 64 }, (_, i) => 1 + i / 64);
  const source = stateDict({
    "x.input_layernorm.weight": { data: values, shape: [values.length] },
  });
  const holding = (told: readonly number[]) =>
    server("a", { getWeightsByName: () => Promise.resolve(told) });
  await using open = await source.open({ signal: new AbortController().signal });
  const sent = open.tensors.map((tensor, sourceIndex) => ({ ...tensor, sourceIndex }));
  const compare = (told: readonly number[]) =>
    compareSample([holding(told)], source, { open, sent }, call);
  equal(await compare([...values]), true);
  equal(await compare(Array.from(values, (value) => value * (1 + 2 ** -9))), true);
  await fc.assert(
    fc.asyncProperty(fc.nat(values.length - 1), fc.constantFrom(1, -1), async (at, sign) => {
      const told = Array.from(
        values,
        (value, i) => i === at ? value * (1 + sign * 2 ** -6) : value,
      );
      await rejects(compare(told), (error: Error) => {
        deepEqual((error.cause as WeightSyncError).server, "a");
        return true;
      });
    }),
  );
});

Deno.test("the first failure of a step ends it on the other servers too", async () => {
  const seen: unknown[] = [];
  await rejects(
    onAll([{ url: "a" }, { url: "b" }], call, async ({ url }, signal) => {
      if (url === "a") throw new Error("a failed");
      await new Promise((_, reject) => {
        signal.addEventListener("abort", () => {
          seen.push(signal.reason);
          reject(signal.reason);
        });
        // Without an abort the step would wait for ever: a late end shows that none came.
        void Promise.resolve().then(async () => {
          for (let i = 0; i < 100; i++) await Promise.resolve();
          reject(new Error("not ended"));
        });
      });
    }),
    /a failed/,
  );
  equal(seen.length, 1);
});

Deno.test("a sync that ran meanwhile is seen by the version it left, although nobody marks", async () => {
  const marks: string[] = [];
  const one = {
    ...server("a"),
    weightVersion: "1",
    readVersion() {
      one.weightVersion = "2";
      return Promise.resolve("2");
    },
    mark(mark: string) {
      marks.push(mark);
      return Promise.resolve();
    },
  };
  const lease = new Lease({
    servers: [one as unknown as FleetServer],
    owner: "me",
    version: "3",
    controlMs: 1000,
    stragglerMs: 1000,
    patienceMs: 3000,
    signal: undefined,
    clock: new FakeClock(),
    logger: silentLogger,
  });
  equal(await lease.claim(new Set(), true), false);
  deepEqual(marks, []);
  await lease.stop();
});

Deno.test("a GPU server's answers to all updates do not make it whole when the sync fails", async () => {
  for (const device of ["cpu", "cuda"] as const) {
    let isTaken = () => false;
    await using whole = weightsStandIn({}, { device });
    await using failing = weightsStandIn({
      "POST /update_weights_from_distributed": async () => {
        await until(() => isTaken());
        return Response.json({ success: false, message: "no room" });
      },
    }, { device });
    await using sender = new SGLangWeightSyncScheme({
      workers: [whole.url, failing.url],
      env: () => undefined,
      transport: "nccl",
      nameCheck: "off",
      openGroup: recordingGroups().openGroup,
    }).createSender();
    await sender.initAllWorkersGroup();
    isTaken = () => sender.servers[0]!.condition === "taken";
    await rejects(sender.updateWeights({ w: { data: new Float32Array(4), shape: [4] } }));
    const { condition, paused } = sender.servers[0]!;
    deepEqual([condition, paused], device === "cpu" ? ["complete", false] : ["taken", true]);
  }
});
