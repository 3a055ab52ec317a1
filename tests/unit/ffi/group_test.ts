import { match, rejects } from "node:assert/strict";
import { PermissionError, ValidationError } from "../../../src/errors.ts";
import { NcclGroup, type NcclGroupOptions, type RendezvousStore } from "../../../ffi/mod.ts";

const store: RendezvousStore = {
  hostname: "127.0.0.1",
  port: 34_000,
  peersSeen: { connected: 0, lastOp: undefined },
  set() {},
  delete: () => false,
  onMissing() {},
};
const options: NcclGroupOptions = { store, worldSize: 2, groupName: "g" };

Deno.test("options that cannot work are refused before anything is opened", async () => {
  for (
    const [wrong, expected] of [
      [{ worldSize: 1 }, /at least 2/],
      [{ worldSize: 2.5 }, /at least 2/],
      [{ worldSize: 129 }, /128 ranks/],
      [{ groupName: "" }, /groupName/],
      [{ device: -1 }, /device/],
    ] as const
  ) {
    await rejects(NcclGroup.open({ ...options, ...wrong }), (error: Error) => {
      match(error.message, expected);
      return error instanceof ValidationError;
    });
  }
});

Deno.test("without permission the error names the libraries and the flag", async () => {
  const cudart = new URL(import.meta.url).pathname;
  await rejects(NcclGroup.open({ ...options, libraries: { cudart } }), (error: Error) => {
    match(error.message, new RegExp(`--allow-ffi=${cudart}`));
    return error instanceof PermissionError;
  });
});
