/** Servers and trainers that die for good; runs last, because it leaves nobody alive. */
import assert from "node:assert/strict";
import { GlooGroup } from "../../../src/collective/gloo/group.ts";
import type { OpenGroup } from "../../../src/weights/transport/mod.ts";
import { safetensors } from "../../../src/weights/source/mod.ts";
import { fails, note } from "../../_support/faults.ts";
import { modelPath } from "../../_support/real.ts";
import { type Fleet, killTrainer, type Member } from "../../_support/weights.ts";

const tiny = () => safetensors(modelPath("tiny"));
const tiny1 = () => safetensors(modelPath("tiny1"));

/** Registers the tests; each takes what the one before it left. */
export function killing(fleet: () => Fleet): void {
  Deno.test("a server killed in an update is named; the other serves whole weights, old or new", async () => {
    const [first, second] = fleet().members;
    await using sender = await fleet().sender();
    await sender.updateWeights(tiny());
    await using doomed = await fleet().sender({
      transport: "gloo",
      openGroup: beforeBroadcast(() => kill(second!)),
    });
    const error = await fails(
      "a server is killed within an update",
      {
        code: "weight_sync",
        message: /update bucket 1 of 1/,
        afterwards: "it is reported; the others serve what they hold, if that is whole",
      },
      () => doomed.updateWeights(tiny1()),
    );
    assert.match(error.message, new RegExp(`${second!.url}: could not look for survivors`));
    // Whether the other had all its bytes by then is a matter of milliseconds.
    const { condition, paused } = doomed.servers[0]!;
    assert.equal(paused, false);
    await fleet().serves(condition === "complete" ? "tiny1" : "tiny", [first!]);
    const { weightVersion } = await first!.client.modelInfo();
    assert.doesNotMatch(weightVersion ?? "", /:/);
  });

  Deno.test("a server that is gone is told before anything is sent, or skipped on demand", async () => {
    const [first, second] = fleet().members;
    const error = await fails(
      "a server is gone before the sync",
      { code: "weight_sync", message: /phase "probe"/, afterwards: "the others are untouched" },
      () => fleet().sender(),
    );
    assert.equal(error.server, second!.url);
    await using sender = await fleet().sender({ whenUnreachable: "skip" });
    const report = await sender.updateWeights(tiny1());
    assert.deepEqual(report.skipped, [second!.url]);
    await fleet().serves("tiny1", [first!]);
  });

  Deno.test("our process killed (-9) inside a payload: nothing waits past its deadline", async () => {
    const [first] = fleet().members;
    await killTrainer([first!], "payload");
    const from = performance.now();
    const deadlines = { initMs: 3000, probeMs: 3000, destroyMs: 3000 };
    // Where within the payload the kill comes decides whether the server notices.
    const error = await fleet().sender({ workers: [first!.url], deadlines }).then(
      (sender) => sender.close().then(() => undefined),
      (reason) => reason,
    );
    const elapsedMs = performance.now() - from;
    assert.ok(elapsedMs < 12_000);
    if (error !== undefined) {
      assert.equal(error.code, "weight_sync");
      assert.match(error.message, /Timed out in phase/);
    }
    note({
      fault: "our process is killed (-9) inside a payload, then a new trainer comes",
      elapsedMs,
      error: error === undefined ? "no error" : `${error.name}, phase "${error.phase}"`,
      afterwards: error === undefined ? "it noticed; serves on" : "that server must be restarted",
    });
  });

  Deno.test("with every server gone nothing waits", async () => {
    const [last] = fleet().members;
    kill(last!);
    await untilRefused(last!.url);
    await fails(
      "every server is gone",
      { code: "weight_sync", message: /phase "probe"/, afterwards: "nobody is left" },
      () => fleet().sender({ whenUnreachable: "skip", deadlines: { probeMs: 3000 } }),
    );
  });
}

function kill(member: Member): void {
  if (member.pid === undefined) throw new Error("These tests need servers of their own");
  Deno.kill(member.pid, "SIGKILL");
}

/** A process that was killed may take a connection for some milliseconds more. */
async function untilRefused(url: string): Promise<void> {
  const { hostname, port } = new URL(url);
  for (;;) {
    try {
      (await Deno.connect({ hostname, port: Number(port) })).close();
    } catch {
      return;
    }
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/** A gloo group that does something just before its first bytes. */
function beforeBroadcast(event: () => void): OpenGroup {
  return async (options, call) => {
    const group = await GlooGroup.open(options, call);
    const broadcast = group.broadcast.bind(group);
    group.broadcast = async (parts, broadcastCall) => {
      event();
      await new Promise((resolve) => setTimeout(resolve, 200));
      await broadcast(parts, broadcastCall);
    };
    return group;
  };
}
