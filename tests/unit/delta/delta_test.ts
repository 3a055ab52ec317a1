/** Versions as what changed: a publisher, a store, followers that lose and find their base. */
import assert from "node:assert/strict";
import { join } from "node:path";
import fc from "fast-check";
import { openCheckpoint, writeSafetensors } from "../../../src/checkpoint/mod.ts";
import { DeltaStore, Follower, publishDelta } from "../../../src/delta/mod.ts";
import { applyDelta, writeDelta } from "../../../src/delta/xor.ts";
import { EmbeddedServer, makeTinyCheckpoint } from "../../../src/embedded/mod.ts";
import { CheckpointError, StateError } from "../../../src/errors.ts";
import { SGLangClient } from "../../../src/client/mod.ts";
import { temporaryFolder } from "../../_support/temporary_folder.ts";
import { seeded } from "../../_support/seeded.ts";

async function copy(from: string, to: string): Promise<void> {
  await Deno.mkdir(to, { recursive: true });
  for await (const { name } of Deno.readDir(from)) {
    await Deno.copyFile(join(from, name), join(to, name));
  }
}

const weights = (folder: string) => join(folder, "model.safetensors");

/** A copy of a checkpoint in which a share of the elements has other values. */
async function changed(from: string, to: string, share: number, seed: number): Promise<void> {
  await copy(from, to);
  const random = seeded(seed);
  await using checkpoint = await openCheckpoint(from);
  const tensors = [];
  for (const { name, dtype, shape } of checkpoint.tensors.values()) {
    const data = new Float32Array((await checkpoint.read(name)).buffer);
    tensors.push({ name, dtype, shape, data: data.map((x) => random() < share ? x + 0.01 : x) });
  }
  await writeSafetensors(weights(to), tensors);
}

async function* pieces(bytes: Uint8Array, size: number): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
}

Deno.test("whatever two files of one size hold, the delta makes the one of the other, in any pieces", async () => {
  await using folder = await temporaryFolder();
  const [a, b, d, out] = ["a", "b", "d", "out"].map((name) => join(folder.path, name));
  await fc.assert(
    fc.asyncProperty(
      fc.uint8Array({ maxLength: 300 }),
      fc.infiniteStream(fc.integer({ min: 0, max: 255 })),
      fc.integer({ min: 1, max: 64 }),
      async (base, stream, size) => {
        const next = base.map((byte) => {
          const other = stream.next().value as number;
          return other < 128 ? byte : other;
        });
        await Deno.writeFile(a!, base);
        await Deno.writeFile(b!, next);
        const diff = await writeDelta(a!, b!, d!);
        const delta = await Deno.readFile(d!);
        assert.equal(delta.length, diff.size);
        const done = await applyDelta(a!, pieces(delta, size), out!);
        assert.deepEqual(await Deno.readFile(out!), Uint8Array.from(next));
        assert.deepEqual(done, { base: diff.base, next: diff.next });
      },
    ),
    { numRuns: 60 },
  );
});

Deno.test("a delta that is cut, longer, or damaged never passes as right", async () => {
  await using folder = await temporaryFolder();
  const [a, b, d, out] = ["a", "b", "d", "out"].map((name) => join(folder.path, name));
  const random = seeded(1);
  await Deno.writeFile(a!, Uint8Array.from({ length: 5000 }, () => random() * 256));
  await Deno.writeFile(b!, Uint8Array.from({ length: 5000 }, () => random() * 256));
  const diff = await writeDelta(a!, b!, d!);
  const delta = await Deno.readFile(d!);
  for (let at = 0; at < delta.length; at += 97) {
    const flipped = delta.slice();
    flipped[at]! ^= 0x41;
    for (const bytes of [delta.subarray(0, at), flipped]) {
      const sha256 = await applyDelta(a!, pieces(bytes, 1000), out!)
        .then(({ next }) => next.sha256, (error) => {
          assert.ok(error instanceof CheckpointError, String(error));
        });
      assert.notEqual(sha256, diff.next.sha256);
    }
  }
  const longer = new Uint8Array([...delta, 1]);
  await assert.rejects(applyDelta(a!, pieces(longer, 1000), out!), CheckpointError);
});

Deno.test("a follower patches its files and its server serves the new version", async () => {
  await using folder = await temporaryFolder();
  const at = (name: string) => join(folder.path, name);
  await makeTinyCheckpoint(at("one"), { seed: 0, dtype: "float32" });
  await changed(at("one"), at("two"), 0.01, 5);
  await copy(at("one"), at("served"));
  await using server = await EmbeddedServer.start({ model: at("served") });
  using client = new SGLangClient({ url: server.url });
  const follower = new Follower({
    store: at("store"),
    folder: at("served"),
    serverUrl: server.url,
  });
  assert.equal(await follower.update(), undefined);
  await publishDelta(at("store"), at("one"), { version: "one" });
  const first = (await follower.update())!;
  // The files are those of the server already: nothing is read.
  assert.deepEqual([first.version, first.bytesRead, first.patched], ["one", 0, 0]);
  const published = await publishDelta(at("store"), at("two"), { version: "two" });
  assert.ok(published.deltaBytes < 0.1 * published.byteLength);
  const second = (await follower.update())!;
  assert.deepEqual([second.patched, second.whole], [1, 0]);
  assert.equal(second.bytesRead, published.deltaBytes);
  assert.deepEqual(
    await Deno.readFile(weights(at("served"))),
    await Deno.readFile(weights(at("two"))),
  );
  assert.equal((await client.modelInfo()).weightVersion, "two");
  // The same as a server that loaded that checkpoint.
  await using fresh = await EmbeddedServer.start({ model: at("two") });
  using other = new SGLangClient({ url: fresh.url });
  const request = { inputIds: [1, 2, 3], samplingParams: { temperature: 0, maxNewTokens: 8 } };
  assert.deepEqual((await client.generate(request)).ids, (await other.generate(request)).ids);
  assert.equal(await follower.update(), undefined);
});

Deno.test("whatever a follower's files are, it ends with the newest version's", async () => {
  await using folder = await temporaryFolder();
  const at = (name: string) => join(folder.path, name);
  await makeTinyCheckpoint(at("v1"), { seed: 0, dtype: "float32" });
  await publishDelta(at("store"), at("v1"), { version: "v1" });
  for (let i = 2; i <= 4; i++) {
    await changed(at(`v${i - 1}`), at(`v${i}`), 0.01, i);
    await publishDelta(at("store"), at(`v${i}`), { version: `v${i}` });
  }
  const wanted = await Deno.readFile(weights(at("v4")));
  const follow = async (start: string | undefined, spoil?: (path: string) => Promise<void>) => {
    await Deno.remove(at("local"), { recursive: true }).catch(() => {});
    await Deno.mkdir(at("local"));
    if (start !== undefined) await copy(at(start), at("local"));
    await spoil?.(weights(at("local")));
    const report = await new Follower({ store: at("store"), folder: at("local") }).update();
    assert.deepEqual(await Deno.readFile(weights(at("local"))), wanted);
    assert.deepEqual(
      (await Array.fromAsync(Deno.readDir(at("local")))).filter(({ name }) => name.endsWith("tmp")),
      [],
    );
    return [report!.patched, report!.whole];
  };
  assert.deepEqual(await follow("v3"), [1, 0]);
  assert.deepEqual(await follow("v4"), [0, 0]);
  assert.deepEqual(await follow(undefined), [0, 1]);
  assert.deepEqual(await follow("v1"), [0, 1]);
  assert.deepEqual(await follow("v3", (path) => Deno.truncate(path, 1000)), [0, 1]);
  const delta = join(at("store"), "v4", "model.safetensors.delta");
  const bytes = await Deno.readFile(delta);
  bytes[bytes.length >> 1]! ^= 0x10;
  await Deno.writeFile(delta, bytes);
  assert.deepEqual(await follow("v3"), [0, 1]);
});

Deno.test("a follower that was away comes after over several deltas", async () => {
  await using folder = await temporaryFolder();
  const at = (name: string) => join(folder.path, name);
  await makeTinyCheckpoint(at("v1"), { seed: 0, dtype: "float32" });
  await publishDelta(at("store"), at("v1"), { version: "v1" });
  const follower = new Follower({ store: at("store"), folder: at("local") });
  await Deno.mkdir(at("local"));
  assert.equal((await follower.update())!.whole, 1);
  for (let i = 2; i <= 5; i++) {
    await changed(at(`v${i - 1}`), at(`v${i}`), 0.01, i);
    await publishDelta(at("store"), at(`v${i}`), { version: `v${i}` });
  }
  const report = (await follower.update())!;
  assert.deepEqual([report.version, report.patched, report.whole], ["v5", 1, 0]);
  assert.deepEqual(
    await Deno.readFile(weights(at("local"))),
    await Deno.readFile(weights(at("v5"))),
  );
});

Deno.test("a store over HTTP is the same, and one without the right file leaves the old one", async () => {
  await using folder = await temporaryFolder();
  const at = (name: string) => join(folder.path, name);
  await makeTinyCheckpoint(at("v1"), { seed: 0, dtype: "float32" });
  await publishDelta(at("store"), at("v1"), { version: "v1" });
  let spoils = true;
  await using http = Deno.serve(
    { port: 0, hostname: "127.0.0.1", onListen() {} },
    async (request) => {
      const path = join(at("store"), new URL(request.url).pathname);
      try {
        const bytes = await Deno.readFile(path);
        if (spoils && path.endsWith("model.safetensors")) bytes[999]! ^= 1;
        return new Response(bytes);
      } catch {
        return new Response(null, { status: 404 });
      }
    },
  );
  await makeTinyCheckpoint(at("local"), { seed: 9, dtype: "float32" });
  const before = await Deno.readFile(weights(at("local")));
  const store = `http://127.0.0.1:${(http.addr as Deno.NetAddr).port}/`;
  const follower = new Follower({ store, folder: at("local") });
  await assert.rejects(follower.update(), CheckpointError);
  assert.deepEqual(await Deno.readFile(weights(at("local"))), before);
  spoils = false;
  assert.equal((await follower.update())!.whole, 1);
  assert.equal((await new DeltaStore(store).newest())!.version, "v1");
});

Deno.test("a version is published once, and old whole files and deltas go", async () => {
  await using folder = await temporaryFolder();
  const at = (name: string) => join(folder.path, name);
  await makeTinyCheckpoint(at("v"), { seed: 0, dtype: "float32" });
  for (let i = 1; i <= 6; i++) {
    await publishDelta(at("store"), at("v"), { version: `v${i}`, keepWhole: 1, keepDeltas: 3 });
  }
  await assert.rejects(publishDelta(at("store"), at("v"), { version: "v6" }), StateError);
  const names = (await Array.fromAsync(Deno.readDir(at("store")), ({ name }) => name)).sort();
  assert.deepEqual(names, ["manifest.json", "v4", "v5", "v6"]);
  const old = (await Array.fromAsync(Deno.readDir(at("store/v4")), ({ name }) => name)).sort();
  assert.deepEqual(old, ["manifest.json", "model.safetensors.delta"]);
});
