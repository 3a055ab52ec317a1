/** What `sync` does where the folder of the servers' model is not on this machine. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { EmbeddedServer, makeTinyCheckpoint } from "../../../src/embedded/mod.ts";
import { tinyCheckpoint } from "../embedded/_support.ts";
import { jsonLines, run } from "./_support.ts";

/** A server whose model's folder is gone, as for one on another machine. */
async function elsewhere(): Promise<EmbeddedServer> {
  const folder = await Deno.makeTempDir({ prefix: "sglang-rl-elsewhere-" });
  try {
    await makeTinyCheckpoint(join(folder, "model"));
    return await EmbeddedServer.start({ model: join(folder, "model") });
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

Deno.test("a model's folder that is not here is one warning, and --dry-run tells the same", async () => {
  const next = await tinyCheckpoint({ seed: 1 });
  for (const transport of ["auto", "disk"]) {
    await using server = await elsewhere();
    const args = ["sync", next, "-s", server.url, "--weight-version", "v2", "--json"];
    if (transport === "disk") args.push("--transport", "disk");
    const planned = await run([...args, "--dry-run"]);
    assert.equal(server.stats.weightVersion, "default");
    const done = await run(args);
    assert.equal(server.stats.weightVersion, "v2");
    for (const { code, err } of [planned, done]) {
      assert.equal(code, 0, err);
      assert.match(err, /^warning: .*model ".*" cannot be read here.*sent unchecked\n$/);
    }
    const [plan] = jsonLines(planned.out);
    const [report] = jsonLines(done.out);
    for (const key of ["tensors", "size_bytes", "transport"]) {
      assert.equal(plan![key], report![key], key);
    }
  }
});

Deno.test("--name-check off says nothing, servers refuses by the option's name", async () => {
  await using server = await elsewhere();
  const args = ["sync", await tinyCheckpoint({ seed: 1 }), "-s", server.url];
  for (const more of [["--dry-run"], []]) {
    const strict = await run([...args, ...more, "--name-check", "servers"]);
    assert.equal(strict.code, 2);
    assert.match(strict.err, /cannot be read here.*--name-check where_possible/s);
    assert.doesNotMatch(strict.err, /initAllWorkersGroup|nameCheck|metadataOf/);
    assert.equal(server.stats.weightVersion, "default");
    const off = await run([...args, ...more, "--name-check", "off"]);
    assert.deepEqual({ code: off.code, err: off.err }, { code: 0, err: "" });
  }
});

Deno.test("weights that do not fit are refused by --dry-run as by the push", async () => {
  await using server = await EmbeddedServer.start({ model: await tinyCheckpoint({ tied: false }) });
  const other = await tinyCheckpoint({ tied: true });
  for (const more of [["--dry-run"], []]) {
    const { code, out, err } = await run(["sync", other, "-s", server.url, ...more]);
    assert.deepEqual({ code, out }, { code: 2, out: "" });
    assert.match(err, /lm_head\.weight/);
  }
});
