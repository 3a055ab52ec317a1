/** Bringing one server up to date: which weights it may get, and under which name. */
import assert from "node:assert/strict";
import { safetensors } from "../../../src/weights/source/mod.ts";
import { answers, checkpoint, TestFleet } from "./_fleet.ts";

Deno.test("files that changed since the sync are not brought under its name", async () => {
  await using fleet = await TestFleet.start(2);
  const { engine, sender } = fleet;
  const folder = await Deno.makeTempDir();
  await using _gone = { [Symbol.asyncDispose]: () => Deno.remove(folder, { recursive: true }) };
  const copy = async (letter: "b" | "c") => {
    for await (const entry of Deno.readDir(await checkpoint(letter))) {
      await Deno.copyFile(`${await checkpoint(letter)}/${entry.name}`, `${folder}/${entry.name}`);
    }
  };
  await copy("b");
  await sender.updateWeights(safetensors(folder));
  await copy("c");
  await fleet.restart(0);
  await engine.refreshWorkers();
  assert.deepEqual(fleet.states, ["quarantined", "serving"]);
  await assert.rejects(engine.refitWorker(fleet.servers[0]!.url), /changed since it was synced/);
  await engine.refitWorker(fleet.servers[0]!.url, { source: safetensors(await checkpoint("b")) });
  assert.deepEqual(fleet.states, ["serving", "serving"]);
});

Deno.test("who is brought up to date while a sync ends gets no weights under the name of others", async () => {
  await using fleet = await TestFleet.start(2);
  const { engine, sender } = fleet;
  const [b, c] = [safetensors(await checkpoint("b")), safetensors(await checkpoint("c"))];
  await sender.updateWeights(b, { version: "made-of-b" });
  const madeOf = new Map<string, string>();
  const note = (all: Map<string, string>) => {
    for (const [key, ids] of all) madeOf.set(key.split(" ")[1]!, ids);
  };
  note(await answers(engine));
  // The files are looked at once more at the end, while nobody else waits.
  const reached = Promise.withResolvers<void>();
  const goOn = Promise.withResolvers<void>();
  let looks = 0;
  const slow = {
    ...c,
    fingerprint: async (call?: { signal?: AbortSignal | undefined }) => {
      if (++looks === 2) {
        reached.resolve();
        await goOn.promise;
      }
      return await c.fingerprint!(call);
    },
  };
  const syncing = sender.updateWeights(slow, { version: "made-of-c" });
  await reached.promise;
  note(new Map([...await answers(engine)].filter(([key]) => key.endsWith("made-of-c"))));
  await fleet.restart(1);
  await engine.refitWorker(fleet.servers[1]!.url).catch(() => {});
  const after = await answers(engine);
  goOn.resolve();
  await syncing;
  for (const [key, ids] of after) assert.equal(ids, madeOf.get(key.split(" ")[1]!), key);
});

Deno.test("weights of another program's sync are not had from ours", async () => {
  await using fleet = await TestFleet.start(2);
  const { engine, sender } = fleet;
  await sender.updateWeights(safetensors(await checkpoint("b")), { version: "ours" });
  await engine.tellVersion("theirs");
  await assert.rejects(
    engine.refitWorker(fleet.servers[0]!.url),
    /the last sync brought "ours", not "theirs"/,
  );
});
