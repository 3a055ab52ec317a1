import assert from "node:assert/strict";
import { join } from "node:path";
import { sglangHome, sglangVersions } from "../../../scripts/sglang_cpu/home.ts";
import { setUp } from "../../../scripts/sglang_cpu/set_up.ts";

Deno.test("setting up again what is there changes nothing and says nothing", async () => {
  const said: string[] = [];
  await setUp({ versions: sglangVersions, home: sglangHome(), say: (line) => said.push(line) });
  assert.deepEqual(said, []);
});

Deno.test("a second set-up of a folder waits for the first, and can be given up", async () => {
  const home = sglangHome();
  const first = await Deno.open(join(home, ".setup.lock"), { create: true, write: true });
  try {
    await first.lock(true);
    const abort = new AbortController();
    const said: string[] = [];
    const say = (line: string) => {
      said.push(line);
      abort.abort(new Error("given up"));
    };
    await assert.rejects(setUp({ versions: [], home, say, signal: abort.signal }), /given up/);
    assert.deepEqual(said, [`waiting for another set-up of ${home} to end`]);
    await first.unlock();
    await setUp({ versions: [], home, say });
    assert.equal(said.length, 1);
  } finally {
    first.close();
  }
});

Deno.test("what stands in the way is told in one line", async () => {
  const folder = await Deno.makeTempDir();
  try {
    const told = async (...args: string[]) => {
      const { code, stderr } = await new Deno.Command(Deno.execPath(), {
        args: ["run", "--allow-all", "scripts/setup_sglang.ts", "--home", folder, ...args],
      }).output();
      assert.equal(code, 1);
      return new TextDecoder().decode(stderr).trim();
    };
    assert.equal(
      await told("--python", "/no/python"),
      "Cannot set up SGLang: Python 3.11 is needed, and there is no /no/python: install it, " +
        "or name it with --python",
    );
    assert.match(await told("--version", "9.9"), /^Cannot set up SGLang: There is no recipe for /);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});
