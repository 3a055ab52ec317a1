import assert from "node:assert/strict";
import fc from "fast-check";
import { formatIp, isInitiator, parseIp } from "../../../src/collective/gloo/address.ts";
import { childrenOf, parentOf } from "../../../src/collective/gloo/tree.ts";
import {
  broadcastSlot,
  encodeGlooRank,
  encodeHead,
  Opcode,
  parseGlooRank,
  parseHead,
  rankKey,
  tagOf,
} from "../../../src/collective/gloo/wire.ts";
import { ProtocolError } from "../../../src/errors.ts";

Deno.test("a rank's record has the bytes that torch writes", () => {
  const bytes = encodeGlooRank({
    hostname: "h1",
    address: { ip: parseIp("127.0.0.1"), port: 0x1234 },
    pairIds: [0n, 1n],
  });
  // Measured with torch 2.14: 170 bytes for a world of 2 and a host name of 2 bytes.
  assert.equal(bytes.length, 170);
  assert.deepEqual(bytes.subarray(0, 10), Uint8Array.of(2, 0, 0, 0, 0, 0, 0, 0, 0x68, 0x31));
  assert.deepEqual(bytes.subarray(10, 18), Uint8Array.of(136, 0, 0, 0, 0, 0, 0, 0));
  assert.deepEqual(bytes.subarray(18, 26), Uint8Array.of(2, 0, 0x12, 0x34, 127, 0, 0, 1));
  assert.deepEqual(bytes.subarray(146, 154), new Uint8Array(8).fill(0xff));
  assert.deepEqual(
    bytes.subarray(154),
    Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0),
  );
});

Deno.test("records of IPv4 and IPv6 ranks are read back", () => {
  const ip = fc.oneof(
    fc.uint8Array({ minLength: 4, maxLength: 4 }),
    fc.uint8Array({ minLength: 16, maxLength: 16 }),
  );
  fc.assert(fc.property(ip, fc.nat({ max: 65535 }), fc.nat({ max: 9 }), (ip, port, world) => {
    const pairIds = Array.from({ length: world }, (_, i) => BigInt(i));
    const info = parseGlooRank(encodeGlooRank({ hostname: "x", address: { ip, port }, pairIds }));
    assert.deepEqual([...info.address.ip], [...ip]);
    assert.equal(info.address.port, port);
    assert.deepEqual(info.pairIds, pairIds);
  }));
});

Deno.test("damaged records are refused with a ProtocolError", () => {
  const good = encodeGlooRank({
    hostname: "h",
    address: { ip: parseIp("::1"), port: 1 },
    pairIds: [0n],
  });
  fc.assert(fc.property(fc.nat({ max: good.length }), fc.nat({ max: 255 }), (at, byte) => {
    const bad = good.slice();
    if (at < bad.length) bad[at] = byte;
    for (const bytes of [bad, bad.subarray(0, at)]) {
      try {
        parseGlooRank(bytes);
      } catch (error) {
        assert.ok(error instanceof ProtocolError, String(error));
      }
    }
  }));
  assert.throws(() => parseGlooRank(new Uint8Array(5)), ProtocolError);
  assert.throws(() => parseGlooRank(good.subarray(0, good.length - 3)), ProtocolError);
});

Deno.test("a message's head has 48 bytes with its total length first", () => {
  const slot = broadcastSlot(3);
  const head = encodeHead({ opcode: Opcode.sendUnboundBuffer, slot, length: 1000 });
  const words = [...new BigUint64Array(head.buffer)];
  assert.deepEqual(words, [1048n, 1n, 0x0600000003000000n, 0n, 1000n, 0n]);
  assert.deepEqual(parseHead(head), { opcode: 1, slot, length: 1000 });
  const notice = encodeHead({ opcode: Opcode.notifyRecvReady, slot, length: 1000 });
  assert.equal(new BigUint64Array(notice.buffer)[0], 48n);
  assert.equal(tagOf(slot), 3);
});

Deno.test("heads that a broadcast does not use are refused", () => {
  const slot = broadcastSlot(0);
  const wrongTotal = encodeHead({ opcode: Opcode.notifyRecvReady, slot, length: 4 });
  new DataView(wrongTotal.buffer).setBigUint64(0, 52n, true);
  for (
    const head of [
      wrongTotal,
      encodeHead({ opcode: 0, slot, length: 4 }),
      encodeHead({ opcode: 9, slot, length: 4 }),
    ]
  ) {
    assert.throws(() => parseHead(head), ProtocolError);
  }
});

Deno.test("the tag of a collective wraps at 32 bits", () => {
  assert.equal(broadcastSlot(2 ** 32 + 5), broadcastSlot(5));
  assert.equal(tagOf(broadcastSlot(0xffffffff)), 0xffffffff);
});

Deno.test("a rank's key holds the group's name twice", () => {
  assert.equal(rankKey("g", 2), "/g/g//cpu//0/2");
});

Deno.test("IP addresses are read and written", () => {
  assert.deepEqual([...parseIp("10.0.255.1")], [10, 0, 255, 1]);
  assert.deepEqual([...parseIp("::1")], [...new Uint8Array(15), 1]);
  assert.deepEqual([...parseIp("::ffff:1.2.3.4")].slice(10), [255, 255, 1, 2, 3, 4]);
  assert.equal(formatIp(parseIp("2001:db8::a:0:1")), "2001:db8:0:0:0:a:0:1");
  assert.equal(formatIp(parseIp("10.0.255.1")), "10.0.255.1");
  assert.throws(() => parseIp("host"), ProtocolError);
});

Deno.test("of two ranks exactly one connects: the greater address, then the greater swapped port", () => {
  const at = (ip: string, port: number) => ({ ip: parseIp(ip), port });
  assert.equal(isInitiator(at("10.0.0.2", 1), at("10.0.0.1", 9)), true);
  // 0x0100 lies in memory as 01 00 and 0x00ff as 00 ff: the low byte counts first.
  assert.equal(isInitiator(at("10.0.0.1", 0x0100), at("10.0.0.1", 0x00ff)), false);
  const port = fc.nat({ max: 65535 });
  fc.assert(fc.property(port, port, (a, b) => {
    fc.pre(a !== b);
    const [left, right] = [at("127.0.0.1", a), at("127.0.0.1", b)];
    assert.notEqual(isInitiator(left, right), isInitiator(right, left));
  }));
  assert.throws(() => isInitiator(at("::1", 1), at("127.0.0.1", 1)), /same IP version/);
  assert.throws(() => isInitiator(at("127.0.0.1", 1), at("127.0.0.1", 1)), /both at/);
});

/** gloo's own loop, from `broadcast.cc`. */
function edgesAsGloo(rank: number, worldSize: number): { from: number[]; to: number[] } {
  const from: number[] = [];
  const to: number[] = [];
  const dimensions = Math.ceil(Math.log2(worldSize));
  let mask = 2 ** dimensions - 1;
  for (let i = 0; i < dimensions; i++) {
    mask ^= 1 << i;
    if ((rank & mask) !== 0) continue;
    const other = rank ^ (1 << i);
    if (other >= worldSize) continue;
    if ((rank & (1 << i)) === 0) to.push(other);
    else from.push(other);
  }
  return { from, to };
}

Deno.test("the tree is gloo's for every world up to 70 ranks", () => {
  for (let worldSize = 2; worldSize <= 70; worldSize++) {
    for (let rank = 0; rank < worldSize; rank++) {
      const { from, to } = edgesAsGloo(rank, worldSize);
      assert.deepEqual(childrenOf(rank, worldSize), to);
      if (rank > 0) assert.deepEqual([parentOf(rank)], from);
    }
  }
});
