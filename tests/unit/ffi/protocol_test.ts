import { deepEqual, equal, ok } from "node:assert/strict";
import {
  AbortedError,
  LibraryError,
  NativeError,
  PermissionError,
  SGLangError,
  StateError,
  UnsupportedError,
  ValidationError,
} from "../../../src/errors.ts";
import { FlightRecorder, fromPlainError, toPlainError } from "../../../ffi/nccl/protocol.ts";

Deno.test("an error keeps its class, message and fields on the way between threads", () => {
  const tried = [{ path: "/x", reason: "no" }];
  const errors = [
    new NativeError("ncclBroadcast failed", { call: "ncclBroadcast", result: 6 }),
    new LibraryError("nowhere", { tried }),
    new PermissionError("refused", { flag: "--allow-ffi=/x" }),
    new ValidationError("wrong"),
    new UnsupportedError("old"),
    new StateError("late"),
    new AbortedError("join"),
  ];
  for (const error of errors) {
    const posted = structuredClone(toPlainError(error));
    const back = fromPlainError(posted) as SGLangError;
    equal(back.constructor, error.constructor);
    equal(back.message, error.message);
    equal(back.code, error.code);
    ok((back.cause as Error).stack?.includes("protocol_test.ts"));
  }
  const native = fromPlainError(toPlainError(errors[0]!)) as NativeError;
  deepEqual([native.call, native.result], ["ncclBroadcast", 6]);
  deepEqual((fromPlainError(toPlainError(errors[1]!)) as LibraryError).tried, tried);
  equal((fromPlainError(toPlainError(errors[2]!)) as PermissionError).flag, "--allow-ffi=/x");
});

Deno.test("an error of another kind becomes a native error of this library", () => {
  const back = fromPlainError(toPlainError(new TypeError("odd")));
  ok(back instanceof SGLangError);
  equal(back.message, "odd");
  equal(fromPlainError(toPlainError("text")).message, "text");
});

Deno.test("the recorder shows the call under way to whoever shares its memory", () => {
  const mine = new FlightRecorder();
  const theirs = new FlightRecorder(mine.shared);
  equal(theirs.call, "none");
  mine.during("ncclBroadcast", () => equal(theirs.call, "ncclBroadcast"));
  equal(theirs.call, "none");
});

Deno.test("only the first who asks may end a communicator", () => {
  const mine = new FlightRecorder();
  const theirs = new FlightRecorder(mine.shared);
  mine.communicator = 0x7fff_0000_1234n;
  equal(theirs.takeCommunicator(), 0x7fff_0000_1234n);
  equal(mine.takeCommunicator(), 0n);
});
