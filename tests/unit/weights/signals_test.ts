import assert from "node:assert/strict";
import { EmbeddedServer, makeTinyCheckpoint } from "../../../src/embedded/mod.ts";

Deno.test("SIGTERM: the servers leave the group before the process ends by the signal", async () => {
  const folder = await Deno.makeTempDir();
  try {
    await makeTinyCheckpoint(folder);
    await using server = await EmbeddedServer.start({ model: folder });
    const script = new URL("../../_support/weights_child.ts", import.meta.url).pathname;
    await using child = new Deno.Command(Deno.execPath(), {
      args: ["run", "-A", script, server.url, folder, "signal"],
      stdout: "piped",
    }).spawn();
    const reader = child.stdout.getReader();
    const { value } = await reader.read();
    const groupName = new TextDecoder().decode(value).trim();
    assert.match(groupName, /^sglang-rl-/);
    await reader.cancel();
    child.kill("SIGTERM");
    assert.equal((await child.status).signal, "SIGTERM");
    const destroyed = await fetch(`${server.url}/destroy_weights_update_group`, {
      method: "POST",
      body: JSON.stringify({ group_name: groupName }),
    });
    assert.equal(destroyed.status, 400, await destroyed.text());
    assert.equal(server.stats.weightVersion, "1");
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});
