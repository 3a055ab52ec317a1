import assert from "node:assert/strict";
import { ExhaustedError, ValidationError } from "../../../src/errors.ts";
import { asPermissionError } from "../../../src/internal/permission.ts";

/** An error as Deno makes it. */
function systemError(code: string): Error {
  return Object.assign(new Error(`said by the system (${code})`), { code });
}

Deno.test("what a machine has no more of is named, with what to do, wherever it comes", () => {
  const kinds = {
    ENOSPC: "disk",
    EDQUOT: "disk",
    EMFILE: "files",
    ENFILE: "files",
    EADDRNOTAVAIL: "ports",
    ENOMEM: "memory",
    ENOBUFS: "memory",
  };
  for (const [code, resource] of Object.entries(kinds)) {
    const error = systemError(code);
    const known = asPermissionError(error, "--allow-write=x", "write x");
    assert.ok(known instanceof ExhaustedError, code);
    assert.equal(known.resource, resource);
    assert.match(known.message, /^Cannot write x\. \w+/);
    assert.equal(known.cause, error);
  }
  // What is no word of the system stays what it is.
  for (const other of [new Error("x"), systemError("aborted"), systemError("ERR_X")]) {
    assert.equal(asPermissionError(other, "--allow-write=x", "write x"), other);
  }
  // A path that cannot be taken is an error of ours too; the same word on an address says nothing of one.
  for (const code of ["ENOENT", "EISDIR", "EACCES", "EROFS", "ELOOP", "EIO", "EPIPE", "EPROTO"]) {
    const error = systemError(code);
    const known = asPermissionError(error, "--allow-write=x", "write x");
    assert.ok(known instanceof ValidationError, code);
    assert.equal(known.cause, error);
    assert.equal(asPermissionError(error, "--allow-net=x", "reach x"), error);
  }
});
