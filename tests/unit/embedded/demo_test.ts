import assert from "node:assert/strict";

const root = new URL("../../../", import.meta.url).pathname;

Deno.test("the demo generates, pushes weights, generates again, and checks itself", async () => {
  const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "-P=demo", "--no-check", "--quiet", "examples/demo.ts", "--prompts", "8"],
    cwd: root,
    stdin: "null",
  }).output();
  const out = new TextDecoder().decode(stdout);
  assert.equal(code, 0, out + new TextDecoder().decode(stderr));
  assert.match(out, /generate +version default: 8 samples/);
  assert.match(out, /generate again +version 1: 8 samples/);
  assert.match(out, /8 of 8 equal those of a server that was started with the new weights/);
});
