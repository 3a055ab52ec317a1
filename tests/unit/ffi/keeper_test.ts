/** The process that outlives a trainer: carries out its will, and its ranks tell what they tell here. */
import { deepEqual, equal, rejects } from "node:assert/strict";
import { Keeper, openRankIn } from "../../../ffi/keeper/keeper.ts";
import { decodeMessage, encodeMessage } from "../../../ffi/keeper/frames.ts";
import fc from "fast-check";
import { standIn } from "../../_support/http_stand_in.ts";

Deno.test("messages keep numbers of 64 bits and bytes", () => {
  const value = fc.record({
    address: fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
    bytes: fc.uint8Array().map((bytes) => Uint8Array.from(bytes)),
    text: fc.string(),
    list: fc.array(fc.oneof(fc.integer(), fc.boolean(), fc.constant(null))),
  });
  fc.assert(fc.property(value, (message) => {
    const line = encodeMessage(message);
    equal(line.includes("\n"), false);
    deepEqual(decodeMessage(line), { ...message });
  }));
});

Deno.test("when its owner is killed the keeper carries out the last will, in order, with its key", async () => {
  const done = Promise.withResolvers<void>();
  await using server = standIn({
    "POST /destroy_weights_update_group": () => Response.json({}),
    "POST /refused": () => new Response("no", { status: 400 }),
    "POST /continue_generation": () => {
      done.resolve();
      return Response.json({});
    },
  });
  const owner = new Deno.Command(Deno.execPath(), {
    args: [
      ...["run", "-A", "--no-check"],
      new URL("./_keeper_owner.ts", import.meta.url).pathname,
      server.url,
    ],
    stdin: "piped",
    stdout: "piped",
    stderr: "null",
  }).spawn();
  const reader = owner.stdout.getReader();
  const { value } = await reader.read();
  equal(new TextDecoder().decode(value), "LibraryError\n");
  deepEqual(server.calls, []);
  owner.kill("SIGKILL");
  await done.promise;
  deepEqual(server.calls, [
    "POST /destroy_weights_update_group",
    "POST /refused",
    "POST /continue_generation",
  ]);
  deepEqual(server.requests[0]!.body, { group_name: "g" });
  equal(server.requests[0]!.headers.get("authorization"), "Bearer key");
  await owner.status;
  await owner.stdin.close().catch(() => {});
  await reader.cancel();
});

Deno.test("a keeper that is closed leaves the servers alone, and refuses further ranks", async () => {
  await using server = standIn({});
  const keeper = await Keeper.start();
  await keeper.setWill({ url: server.url, headers: {}, calls: [{ path: "/x", body: {} }] });
  await keeper.close();
  await keeper.close();
  deepEqual(server.calls, []);
  await rejects(openRankIn(keeper, {}), { name: "StateError" });
});
