import { deepEqual, equal, throws } from "node:assert/strict";
import { ValidationError } from "../../../src/errors.ts";
import { formatUuid, packParameters } from "../../../ffi/cuda/mod.ts";
import { packConfig } from "../../../ffi/nccl/config.ts";
import { NcclDataType, wireTypeOf } from "../../../ffi/nccl/constants.ts";
import { uniqueIdCounter, uniqueIdKey } from "../../../ffi/nccl/store.ts";
import { describeVersion } from "../../../ffi/nccl/mod.ts";
import { ncclSymbols, uniqueIdStruct } from "../../../ffi/nccl/symbols.ts";
import { toCString } from "../../../ffi/memory.ts";

const undefinedInt = "00000080";

Deno.test("ncclConfig_t has the layout of nccl.h, byte by byte", () => {
  const fields = (blocking: string) =>
    [
      "3800000000000000", // size_t size = 56
      "efbefeca", // unsigned int magic = 0xcafebeef
      "28550000", // unsigned int version = 21800
      blocking, // int blocking
      undefinedInt, // int cgaClusterSize
      undefinedInt, // int minCTAs
      undefinedInt, // int maxCTAs
      "0000000000000000", // const char *netName
      undefinedInt, // int splitShare
      "00000000", // trafficClass of a later version, not read
      "0000000000000000", // commName of a later version, not read
    ].join("");
  equal(packConfig({ blocking: false }).toHex(), fields("00000000"));
  equal(packConfig({ blocking: true }).toHex(), fields("01000000"));
});

Deno.test("ncclUniqueId goes by value as 128 bytes", () => {
  deepEqual(uniqueIdStruct.struct.map(String), Array(16).fill("u64"));
  equal(ncclSymbols.ncclCommInitRankConfig.parameters[2], uniqueIdStruct);
});

Deno.test("kernel parameters lie in the first half, their addresses in the second", () => {
  const target = new BigUint64Array(8);
  equal(packParameters(target, 0x1000n, [7n, 8n, 9n]), 0x1000n + 32n);
  deepEqual([...target], [7n, 8n, 9n, 0n, 0x1000n, 0x1008n, 0x1010n, 0n]);
});

Deno.test("a UUID is written in PyTorch's groups", () => {
  const bytes = Uint8Array.fromHex("0123456789abcdef0123456789abcdef");
  equal(formatUuid(bytes), "01234567-89ab-cdef-0123-456789abcdef");
});

Deno.test("a C string ends with a zero byte", () => {
  equal(toCString("né").toHex(), "6ec3a900");
});

Deno.test("NCCL's version code is split as nccl.h makes it, old and new", () => {
  deepEqual(describeVersion(22809), { code: 22809, text: "2.28.9" });
  deepEqual(describeVersion(23007), { code: 23007, text: "2.30.7" });
  deepEqual(describeVersion(2708), { code: 2708, text: "2.7.8" });
});

Deno.test("every dtype is told to NCCL as PyTorch tells it", () => {
  deepEqual(wireTypeOf("bfloat16", 10), { type: NcclDataType.bfloat16, count: 5 });
  deepEqual(wireTypeOf("float8_e4m3fn", 10), { type: NcclDataType.uint8, count: 10 });
  deepEqual(wireTypeOf("bool", 3), { type: NcclDataType.uint8, count: 3 });
  deepEqual(wireTypeOf("int64", 0), { type: NcclDataType.int64, count: 0 });
});

Deno.test("bytes that are no whole elements, and a dtype without a wire type, are refused", () => {
  throws(() => wireTypeOf("float32", 7), ValidationError);
  throws(() => wireTypeOf("int16", 8), /flattened bucket/);
});

Deno.test("the id's key is the one that PyTorch asks for", () => {
  equal(uniqueIdKey("weights", 0), "/weights/weights//cuda//0");
  equal(uniqueIdCounter("/weights/weights//cuda//12", "weights"), 12);
  equal(uniqueIdCounter("/weights/weights//cuda//x", "weights"), undefined);
  equal(uniqueIdCounter("/other/other//cuda//0", "weights"), undefined);
  equal(uniqueIdCounter("init/", "weights"), undefined);
});
