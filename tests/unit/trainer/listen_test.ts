/** Where a link listens. */
import assert from "node:assert/strict";
import { listenAt } from "../../../src/trainer/listen.ts";
import { TrainerLink } from "../../../src/trainer/mod.ts";
import { temporaryFolder } from "../../_support/temporary_folder.ts";

Deno.test("a port that somebody else has is told as such", async () => {
  await using first = await TrainerLink.listen("tcp:127.0.0.1:0");
  await assert.rejects(TrainerLink.listen(first.address), {
    code: "state",
    message: /Somebody else listens at tcp:127\.0\.0\.1:\d+/,
  });
});

Deno.test("addresses that are none are refused with what one looks like", async () => {
  for (const address of ["", "unix:relative", "tcp:host", "tcp::0", "tcp:h:99999", "http://h:1"]) {
    await assert.rejects(TrainerLink.listen(address), { code: "validation" });
  }
});

Deno.test("without permission to listen the error names the flag", async () => {
  const refused = { kind: "tcp", hostname: "203.0.113.1", port: 1 } as const;
  await assert.rejects(listenAt(refused), {
    code: "permission",
    message: /--allow-net=203\.0\.113\.1:1/,
  });
});

Deno.test("without permission for a socket file the error names all three flags", async () => {
  await using folder = await temporaryFolder();
  await assert.rejects(listenAt({ kind: "unix", path: `${folder.path}/s` }), {
    code: "permission",
    message: /--allow-net=unix:.* --allow-read=.* --allow-write=/,
  });
});
