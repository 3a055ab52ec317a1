/** Which checkpoints `sync --watch` pushes, whatever writers and clocks do. */
import assert from "node:assert/strict";
import { join } from "node:path";
import {
  checkpointName,
  servedStep,
  stepOf,
  watchCheckpoints,
  type WatchOptions,
} from "../../../src/cli/checkpoint_watch.ts";
import { FakeClock, until } from "../../_support/clock.ts";
import { temporaryFolder } from "../../_support/temporary_folder.ts";
import { tinyCheckpoint } from "../embedded/_support.ts";

/** A watched folder: each look is taken when the test asks for it. */
async function watched(options: Partial<WatchOptions> = {}) {
  const { path, ...folder } = await temporaryFolder();
  const clock = FakeClock.install();
  const stop = new AbortController();
  const pushed: string[] = [];
  const told: string[] = [];
  const intervalMs = 1000;
  const work = (async () => {
    const watch = { intervalMs, signal: stop.signal, tell: (line: string) => told.push(line) };
    for await (const one of watchCheckpoints(path, { ...watch, ...options })) {
      pushed.push(one.slice(path.length + 1));
    }
  })();
  return {
    path,
    pushed,
    told,
    /** Two looks, so that what does not change counts. */
    async look(): Promise<void> {
      for (let i = 0; i < 3; i++) {
        await until(() => clock.pending > 0);
        await clock.advance(intervalMs);
      }
      await until(() => clock.pending > 0);
    },
    put: async (name: string, seed = 0) => {
      await Deno.mkdir(join(path, name), { recursive: true });
      const from = await tinyCheckpoint({ seed });
      await Deno.copyFile(
        join(from, "model.safetensors"),
        join(path, name, "model.safetensors"),
      );
    },
    async [Symbol.asyncDispose]() {
      stop.abort();
      await work;
      clock[Symbol.dispose]();
      await folder[Symbol.asyncDispose]();
    },
  };
}

const old = new Date("2020-01-01");

Deno.test("the higher step is newer, whatever the times say", async () => {
  await using watch = await watched();
  await watch.put("step-9");
  await watch.look();
  await watch.put("step-10", 1);
  await Deno.utime(join(watch.path, "step-10", "model.safetensors"), old, old);
  await watch.look();
  assert.deepEqual(watch.pushed, ["step-9", "step-10"]);
});

Deno.test("an older checkpoint is left when the newest is deleted, unless it is allowed", async () => {
  for (const allowOlder of [false, true]) {
    await using watch = await watched({ allowOlder });
    await watch.put("step-10");
    await watch.look();
    await watch.put("step-20", 1);
    await watch.look();
    await Deno.remove(join(watch.path, "step-20"), { recursive: true });
    await watch.look();
    const expected = ["step-10", "step-20", ...(allowOlder ? ["step-10"] : [])];
    assert.deepEqual(watch.pushed, expected);
    assert.equal(watch.told.some((line) => /step-10 is left: it is older/.test(line)), !allowOlder);
  }
});

Deno.test("nothing older than what the servers serve is pushed", async () => {
  assert.equal(servedStep(["default", "step-30", "updating:a~4:step-31", null]), 31);
  assert.equal(servedStep(["step-7+1f0c9399"]), 7);
  assert.equal(servedStep(["12", "default"]), undefined);
  await using watch = await watched({ servedStep: 30 });
  await watch.put("step-20");
  await watch.look();
  assert.deepEqual(watch.pushed, []);
  assert.match(watch.told[0]!, /step-20 is left: the servers serve step 30/);
  await watch.put("step-40");
  await watch.look();
  assert.deepEqual(watch.pushed, ["step-40"]);
});

Deno.test("without steps a latest file decides, then the time", async () => {
  await using watch = await watched();
  await watch.put("best");
  await watch.put("final", 1);
  await Deno.utime(join(watch.path, "final", "model.safetensors"), old, old);
  await Deno.writeTextFile(join(watch.path, "latest"), "final\n");
  await watch.look();
  assert.deepEqual(watch.pushed, ["final"]);
});

Deno.test("a link to a checkpoint is that checkpoint, and pushes nothing twice", async () => {
  await using watch = await watched();
  await watch.put("step-10");
  await Deno.symlink("step-10", join(watch.path, "latest"));
  await watch.look();
  await watch.put("step-20", 1);
  await Deno.remove(join(watch.path, "latest"));
  await Deno.symlink("step-20", join(watch.path, "latest"));
  await watch.look();
  assert.deepEqual(watch.pushed, ["step-10", "step-20"]);
});

Deno.test("what is half written is waited for, and told", async () => {
  await using watch = await watched();
  const whole = await Deno.readFile(join(await tinyCheckpoint(), "model.safetensors"));
  const headerBytes = 8 + Number(new DataView(whole.buffer).getBigUint64(0, true));
  // Cut short; made at its full length but not written; one shard of two; a name of work under way.
  await watch.put("step-1");
  await Deno.truncate(join(watch.path, "step-1", "model.safetensors"), 1000);
  await Deno.mkdir(join(watch.path, "step-2"));
  {
    using file = await Deno.create(join(watch.path, "step-2", "model.safetensors"));
    await file.write(whole.subarray(0, headerBytes));
    await file.truncate(whole.length);
  }
  await Deno.mkdir(join(watch.path, "step-3"));
  const shard = join(watch.path, "step-3", "model-00001-of-00002.safetensors");
  await Deno.writeFile(shard, whole);
  for (const name of ["step-4.partial", ".step-5", "tmp-step-6", "step-7.tmp"]) {
    await watch.put(name);
  }
  await watch.look();
  assert.deepEqual(watch.pushed, []);
  const told = watch.told.join("\n");
  assert.match(told, /step-1 is not pushed yet: .*/);
  assert.match(told, /step-2 is not pushed yet: the end of model\.safetensors is not written/);
  assert.match(told, /step-3 is not pushed yet: model-00002-of-00002\.safetensors is not there/);
  assert.equal(watch.told.length, 3);
  await Deno.writeFile(join(watch.path, "step-2", "model.safetensors"), whole);
  await watch.look();
  assert.deepEqual(watch.pushed, ["step-2"]);
});

Deno.test("a checkpoint that was only touched is not pushed again; one that was written again is", async () => {
  await using watch = await watched();
  await watch.put("step-10");
  await watch.look();
  const file = join(watch.path, "step-10", "model.safetensors");
  const bytes = await Deno.readFile(file);
  // Its times, its place on the disk, its times backwards: the bytes are the same.
  await Deno.utime(file, old, new Date("2040-01-01"));
  await watch.look();
  await Deno.writeFile(`${file}.new`, bytes);
  await Deno.rename(`${file}.new`, file);
  await Deno.utime(file, old, new Date("2041-01-01"));
  await watch.look();
  assert.deepEqual(watch.pushed, ["step-10"]);
  // One bit of its last byte, and the same size.
  bytes[bytes.length - 1]! ^= 1;
  await Deno.writeFile(file, bytes);
  await Deno.utime(file, old, new Date("2042-01-01"));
  await watch.look();
  assert.deepEqual(watch.pushed, ["step-10", "step-10"]);
  await watch.look();
  await Deno.utime(file, old, new Date("2043-01-01"));
  await watch.look();
  assert.deepEqual(watch.pushed, ["step-10", "step-10"]);
});

Deno.test("looping links, folders that vanish and come back are told and survived", async () => {
  await using watch = await watched();
  await watch.put("step-10");
  await Deno.symlink("loop", join(watch.path, "loop"));
  await Deno.symlink("nowhere", join(watch.path, "gone"));
  await watch.look();
  assert.deepEqual(watch.pushed, ["step-10"]);
  assert.ok(watch.told.some((line) => /loop cannot be read now/.test(line)));
  await Deno.rename(watch.path, `${watch.path}.away`);
  await watch.look();
  assert.ok(watch.told.some((line) => line.startsWith(`${watch.path} cannot be read now`)));
  await Deno.rename(`${watch.path}.away`, watch.path);
  await watch.put("step-20", 1);
  await watch.look();
  assert.deepEqual(watch.pushed, ["step-10", "step-20"]);
});

Deno.test("a checkpoint is called by its folder, and its step is the last number", () => {
  assert.equal(checkpointName("a/step-20"), "step-20");
  assert.equal(checkpointName("a/step-20/"), "step-20");
  assert.equal(checkpointName("a/step-20/model.safetensors"), "step-20");
  assert.equal(checkpointName("a/step-20/model.safetensors.index.json"), "step-20");
  assert.equal(checkpointName("a/policy.safetensors"), "policy");
  assert.deepEqual(
    ["step-20", "global_step_7", "epoch1-step0030", "best"].map(stepOf),
    [20, 7, 30, undefined],
  );
});
