import { equal, throws } from "node:assert/strict";
import { ValidationError } from "../../../src/errors.ts";
import { call, dict, global, object, pickle, tuple } from "../../../src/weights/ipc/pickle.ts";
import { flattenedPayload, namedPayload } from "../../../src/weights/ipc/payload.ts";

function hex(value: Parameters<typeof pickle>[0]): string {
  return pickle(value).toHex();
}

Deno.test("plain values are written as protocol 3", () => {
  equal(hex(null), "80034e2e");
  equal(hex([true, false]), "80035d2888" + "89652e");
  equal(hex(""), "8003580000000071002e");
  equal(hex("ab"), "8003580200000061627100" + "2e");
  equal(hex(new Uint8Array([1, 2])), "8003430201022e");
  equal(hex(new Uint8Array(256)), `80034200010000${"00".repeat(256)}2e`);
  equal(hex(tuple()), "8003292e");
});

Deno.test("integers take the shortest form that holds them, signed", () => {
  equal(hex(0), "80034b002e");
  equal(hex(255), "80034bff2e");
  equal(hex(256), "80034d00012e");
  equal(hex(-1), "80034affffffff2e");
  equal(hex(65536), "80034a000001002e");
  equal(hex(2 ** 31), "80038a0500000080002e");
  equal(hex(-(2n ** 40n)), "80038a060000000000ff2e");
  equal(hex(5n), "80034b052e");
});

Deno.test("a named object is named once and then recalled", () => {
  const size = global("torch", "Size");
  equal(hex([size, size]), "80035d2863746f7263680a53697a650a71006800652e");
});

Deno.test("calls and objects are written as reduce and build", () => {
  const type = global("m", "C");
  equal(hex(call(type, 1)), "8003636d0a430a7100284b0174522e");
  equal(
    hex(object(type, { a: 1 })),
    "8003636d0a430a710029817d285801000000617101" + "4b0175622e",
  );
  equal(hex(dict({})), "80037d28752e");
});

Deno.test("a number that is not whole is refused", () => {
  throws(() => pickle(1.5), ValidationError);
  throws(() => pickle(NaN), ValidationError);
});

const memory = {
  handle: new Uint8Array(64),
  deviceUuid: "0123abcd-4567-89ab-cdef-0123456789ab",
};
const tensor = { name: "w", dtype: "float32", shape: [2], offset: 0 } as const;

Deno.test("a misplaced tensor, a wrong handle and a wrong UUID are refused", () => {
  throws(() => flattenedPayload([{ ...tensor, offset: 6 }], memory), /"w" lies at byte 6/);
  throws(() => namedPayload([{ ...tensor, offset: -4 }], memory), /multiple of 4/);
  throws(() => flattenedPayload([], memory), /at least one/);
  throws(() => flattenedPayload([tensor], { ...memory, handle: new Uint8Array(63) }), /64 bytes/);
  throws(() => flattenedPayload([tensor], { ...memory, deviceUuid: "GPU-1" }), /no device UUID/);
});
