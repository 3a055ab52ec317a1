import assert from "node:assert/strict";
import fc from "fast-check";
import { ProtocolError } from "../../../src/errors.ts";
import { defaultStoreLimits } from "../../../src/rendezvous/limits.ts";
import { RequestParser, type StoreRequest } from "../../../src/rendezvous/request.ts";
import { MessageWriter, Op } from "../../../src/rendezvous/wire.ts";
import { concat, encodeRequest, utf8 } from "./_encode.ts";

const key = fc.string({ unit: "binary", maxLength: 12 });
const value = fc.uint8Array({ maxLength: 40 });
const keys = fc.array(key, { maxLength: 5 });

const request: fc.Arbitrary<StoreRequest> = fc.oneof(
  fc.constantFrom<StoreRequest>({ op: "validate" }, { op: "getNumKeys" }, { op: "cancelWait" }),
  fc.record({
    op: fc.constant("ping" as const),
    nonce: fc.uint8Array({ minLength: 4, maxLength: 4 }),
  }),
  fc.record({ op: fc.constantFrom("set" as const, "append" as const), key, value }),
  fc.record({ op: fc.constant("compareSet" as const), key, expected: value, desired: value }),
  fc.record({ op: fc.constantFrom("get" as const, "deleteKey" as const), key }),
  fc.record({
    op: fc.constant("add" as const),
    key,
    delta: fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }),
  }),
  fc.record({ op: fc.constantFrom("check" as const, "wait" as const, "multiGet" as const), keys }),
  fc.record({
    op: fc.constant("multiSet" as const),
    entries: fc.array(fc.tuple(key, value), { maxLength: 4 }),
  }),
);

function parseAll(parser: RequestParser): StoreRequest[] {
  const requests: StoreRequest[] = [];
  for (let next = parser.next(); next !== undefined; next = parser.next()) requests.push(next);
  return requests;
}

function plain(request: StoreRequest): unknown {
  return JSON.parse(JSON.stringify(request, (_, value) => {
    if (value instanceof Uint8Array) return [...value];
    return typeof value === "bigint" ? String(value) : value;
  }));
}

Deno.test("requests are read back however their bytes are cut into chunks", () => {
  fc.assert(
    fc.property(
      fc.array(request, { maxLength: 8 }),
      fc.array(fc.nat({ max: 30 }), { minLength: 1, maxLength: 20 }),
      (requests, cuts) => {
        const bytes = concat(...requests.map(encodeRequest));
        const parser = new RequestParser(defaultStoreLimits);
        const read: StoreRequest[] = [];
        for (let at = 0, i = 0; at < bytes.length; i++) {
          const end = at + Math.max(1, cuts[i % cuts.length]!);
          parser.push(bytes.subarray(at, end));
          read.push(...parseAll(parser));
          at = end;
        }
        assert.deepEqual(read.map(plain), requests.map(plain));
        assert.equal(parser.bufferedBytes, 0);
      },
    ),
    { numRuns: 300 },
  );
});

const u64 = (value: bigint) => new MessageWriter().i64(value).finish();
const opByte = (op: number) => Uint8Array.of(op);
const refused: ReadonlyArray<[string, Uint8Array, RegExp]> = [
  ["an unknown operation", opByte(0x7f), /operation 0x7f/],
  ["a queue operation of newer torch", opByte(0x0e), /operation 0xe/],
  ["a wrong magic number", concat(opByte(Op.validate), Uint8Array.of(1, 2, 3, 4)), /0x4030201/],
  ["a key of 8 KiB and one byte", concat(opByte(Op.get), u64(8193n)), /key length of 8193/],
  [
    "a value of 8 MiB and one byte",
    concat(opByte(Op.set), u64(1n), utf8("k"), u64(8388609n)),
    /value length of 8388609/,
  ],
  ["too many keys", concat(opByte(Op.wait), u64(131073n)), /number of keys of 131073/],
  ["a length of 2^64 - 1", concat(opByte(Op.get), u64(-1n)), /18446744073709551615/],
  ["a key that is not UTF-8", concat(opByte(Op.get), u64(2n), Uint8Array.of(0xc3, 0x28)), /UTF-8/],
];

for (const [what, bytes, message] of refused) {
  Deno.test(`${what} is refused as soon as it is announced`, () => {
    const parser = new RequestParser(defaultStoreLimits);
    parser.push(bytes);
    assert.throws(
      () => parser.next(),
      (error) => error instanceof ProtocolError && message.test(error.message),
    );
  });
}

Deno.test("a request longer than the limit is refused although each of its keys is short", () => {
  const parser = new RequestParser({ ...defaultStoreLimits, maxMessageBytes: 100 });
  parser.push(
    encodeRequest({ op: "wait", keys: Array.from({ length: 20 }, (_, i) => `key-${i}`) }),
  );
  assert.throws(() => parser.next(), /longer than 100 bytes/);
});

Deno.test("an announced value takes no memory before it arrives", () => {
  const parser = new RequestParser(defaultStoreLimits);
  parser.push(concat(opByte(Op.set), u64(1n), utf8("k"), u64(8388608n), Uint8Array.of(1, 2, 3)));
  assert.equal(parser.next(), undefined);
  assert.equal(parser.bufferedBytes, 1 + 8 + 1 + 8 + 3);
});
