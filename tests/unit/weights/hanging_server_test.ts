/** A server that stops answering, in every step: ends in time, with its name, and frees the other. */
import assert from "node:assert/strict";
import { SGLangWeightSyncScheme } from "../../../src/weights/mod.ts";
import { FakeClock, openCalls } from "../../_support/clock.ts";
import { recordingGroups, weightsStandIn } from "../../_support/weights_stand_in.ts";

const STEP_MS = 60_000;
/** How long the healthy server waits for the other. */
const STRAGGLER_MS = 5_000;
const steps = {
  "POST /pause_generation": "pause",
  "POST /abort_request": "pause",
  "POST /flush_cache": "flush",
  "POST /update_weight_version": "mark",
  "POST /begin_weight_update": "begin",
  "POST /update_weights_from_distributed": "update bucket 1 of 1",
  "POST /end_weight_update": "end",
  "POST /continue_generation": "resume",
} as const;

for (const [call, phase] of Object.entries(steps)) {
  Deno.test(`a server that hangs at ${call} is named in phase ${phase}`, async () => {
    let release = () => {};
    const released = new Promise<void>((resolve) => release = resolve);
    let held = 0;
    const hang = () => {
      held++;
      return released.then(() => Response.json({ success: false, message: "late" }));
    };
    using clock = FakeClock.install({ skipUpToMs: 900 });
    using calls = openCalls();
    const version = { version: "0.5.23" };
    await using healthy = weightsStandIn({}, version);
    await using hanging = weightsStandIn({ [call]: hang }, version);
    const deadlines = {
      pauseMs: STEP_MS,
      drainMs: STEP_MS,
      flushMs: STEP_MS,
      beginMs: STEP_MS,
      updateMs: STEP_MS,
      endMs: STEP_MS,
      controlMs: STEP_MS,
      destroyMs: STEP_MS,
    };
    const sender = new SGLangWeightSyncScheme({
      workers: [healthy.url, hanging.url],
      env: () => undefined,
      nameCheck: "off",
      openGroup: recordingGroups().openGroup,
      deadlines,
    }).createSender();
    try {
      await sender.initAllWorkersGroup();
      const update = assert.rejects(
        sender.updateWeights({ w: { data: new Float32Array(4), shape: [4] } }),
        (error: Error & { code?: string; phase?: string; server?: string }) => {
          assert.equal(error.code, "weight_sync", error.message);
          assert.equal(error.phase, phase);
          assert.equal(error.server, hanging.url);
          assert.match(error.message, /Timed out/);
          return true;
        },
      );
      // Calls that were given up are open no more; what is open hangs.
      const isStuck = () => held > 0 && calls.count <= 1;
      await clock.pass(update, { ms: STRAGGLER_MS, isStuck });
      // The healthy server waits no more than that in each step, and once in cleaning up.
      assert.ok(clock.now() <= 2 * STEP_MS, `${clock.now()}`);
      const [first] = sender.servers;
      if (["pause", "drain", "flush", "mark", "begin"].includes(phase)) {
        assert.equal(first!.paused, false);
        assert.equal(first!.condition, "untouched");
        assert.equal(healthy.weightVersion, "default");
      } else {
        assert.equal(first!.paused, false);
        assert.equal(first!.condition, "complete");
        assert.equal(healthy.weightVersion, "1");
      }
    } finally {
      release();
      await sender.close();
    }
  });
}
