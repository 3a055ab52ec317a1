import assert from "node:assert/strict";
import { PairListener } from "../../../src/collective/gloo/listener.ts";
import { Pair } from "../../../src/collective/gloo/pair.ts";
import { broadcastSlot, encodeHead, Opcode } from "../../../src/collective/gloo/wire.ts";
import { ProtocolError, StateError } from "../../../src/errors.ts";
import { FakeClock, turns } from "../../_support/clock.ts";

const slot = broadcastSlot(0);

/** A pair and the raw socket of the other side. */
async function openPair(): Promise<
  AsyncDisposable & { pair: Pair; other: Deno.TcpConn; ended: Promise<Error> }
> {
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const { promise: ended, resolve } = Promise.withResolvers<Error>();
  const [other, socket] = await Promise.all([
    Deno.connect({ hostname: "127.0.0.1", port: listener.addr.port }),
    listener.accept(),
  ]);
  const pair = new Pair(1, socket, resolve);
  return {
    pair,
    other,
    ended,
    async [Symbol.asyncDispose]() {
      other.close();
      await pair.end(new StateError("test over"), 0);
    },
  };
}

async function readExactly(socket: Deno.TcpConn, length: number): Promise<Uint8Array> {
  const bytes = new Uint8Array(length);
  for (let filled = 0; filled < length;) {
    const count = await socket.read(bytes.subarray(filled));
    if (count === null) throw new Error("closed");
    filled += count;
  }
  return bytes;
}

Deno.test("a send gives notice, waits to be asked, and only then sends its payload", async () => {
  await using setup = await openPair();
  const { pair, other } = setup;
  const sending = pair.send(slot, Uint8Array.of(1, 2, 3));
  const notice = encodeHead({ opcode: Opcode.notifySendReady, slot, length: 3 });
  assert.deepEqual(await readExactly(other, 48), notice);
  await other.write(encodeHead({ opcode: Opcode.notifyRecvReady, slot, length: 3 }));
  await sending;
  const message = await readExactly(other, 51);
  assert.deepEqual(
    message.subarray(0, 48),
    encodeHead({ opcode: Opcode.sendUnboundBuffer, slot, length: 3 }),
  );
  assert.deepEqual(message.subarray(48), Uint8Array.of(1, 2, 3));
});

Deno.test("sends are matched by slot when they are asked for out of order", async () => {
  await using setup = await openPair();
  const { pair, other } = setup;
  const slots = [broadcastSlot(0), broadcastSlot(1)] as const;
  const sending = Promise.all([
    pair.send(slots[0], Uint8Array.of(1)),
    pair.send(slots[1], Uint8Array.of(2, 2)),
  ]);
  await readExactly(other, 96);
  await other.write(encodeHead({ opcode: Opcode.notifyRecvReady, slot: slots[1], length: 2 }));
  await other.write(encodeHead({ opcode: Opcode.notifyRecvReady, slot: slots[0], length: 1 }));
  await sending;
  const bytes = await readExactly(other, 50 + 49);
  assert.deepEqual([...bytes.subarray(48, 50), ...bytes.subarray(98)], [2, 2, 1]);
});

Deno.test("a payload that trickles in byte by byte fills its target", async () => {
  await using setup = await openPair();
  const { pair, other } = setup;
  const target = new Uint8Array(5);
  const receiving = pair.receive(slot, target);
  const head = encodeHead({ opcode: Opcode.sendUnboundBuffer, slot, length: 5 });
  for (const byte of [...head, 9, 8, 7, 6, 5]) await other.write(Uint8Array.of(byte));
  await receiving;
  assert.deepEqual(target, Uint8Array.of(9, 8, 7, 6, 5));
});

const offences: ReadonlyArray<[string, Uint8Array, RegExp]> = [
  [
    "a payload that nobody asked for",
    encodeHead({ opcode: Opcode.sendUnboundBuffer, slot: broadcastSlot(7), length: 4 }),
    /broadcast 7, which was not asked for/,
  ],
  [
    "a payload of another length",
    encodeHead({ opcode: Opcode.sendUnboundBuffer, slot, length: 2 ** 40 }),
    /sent 1099511627776 bytes.*4 were asked for/,
  ],
  ["an unknown operation", encodeHead({ opcode: 77, slot, length: 0 }), /operation 77/],
];

for (const [what, bytes, message] of offences) {
  Deno.test(`${what} ends the pair with a ProtocolError`, async () => {
    await using setup = await openPair();
    const target = new Uint8Array(4);
    const receiving = assert.rejects(setup.pair.receive(slot, target), ProtocolError);
    await setup.other.write(bytes);
    const error = await setup.ended;
    assert.ok(error instanceof ProtocolError && message.test(error.message), String(error));
    await receiving;
  });
}

Deno.test("the other side closing inside a payload fails the receive at once", async () => {
  await using setup = await openPair();
  const receiving = assert.rejects(setup.pair.receive(slot, new Uint8Array(10)), /rank 1 was lost/);
  await setup.other.write(encodeHead({ opcode: Opcode.sendUnboundBuffer, slot, length: 10 }));
  await setup.other.write(Uint8Array.of(1, 2, 3));
  await setup.other.closeWrite();
  await receiving;
});

Deno.test("what was sent before the end arrives whole, although the other side still writes", async () => {
  await using setup = await openPair();
  const { pair, other } = setup;
  const payload = new Uint8Array(500_000).map((_, i) => i % 251);
  const sending = pair.send(slot, payload);
  await other.write(
    encodeHead({ opcode: Opcode.notifyRecvReady, slot, length: payload.length }),
  );
  await sending;
  const ended = pair.end(new StateError("over"), 5_000);
  // As a torch peer does that asks for the next broadcast before it has read this one.
  for (const tag of [1, 2, 3]) {
    await other.write(
      encodeHead({ opcode: Opcode.notifyRecvReady, slot: broadcastSlot(tag), length: 4 }),
    );
    await turns(5);
  }
  const received = await readExactly(other, 96 + payload.length);
  assert.deepEqual(received.subarray(96), payload);
  assert.equal(await other.read(new Uint8Array(1)), null);
  await other.closeWrite();
  await ended;
});

Deno.test("a payload that the other side does not take is given up after the grace", async () => {
  using clock = FakeClock.install();
  await using setup = await openPair();
  const { pair, other } = setup;
  const sending = assert.rejects(pair.send(slot, new Uint8Array(50_000_000)));
  await other.write(encodeHead({ opcode: Opcode.notifyRecvReady, slot, length: 50_000_000 }));
  await readExactly(other, 96);
  const ending = pair.end(new StateError("over"), 60_000);
  await clock.advance(60_000);
  await ending;
  await sending;
});

Deno.test("a listener hands connections to who expects them, before or after they come", async () => {
  const listener = new PairListener("127.0.0.1", [70n, 71n, 72n]);
  const { hostname, port } = listener.address;
  const dial = async (id: bigint) => {
    const socket = await Deno.connect({ hostname, port });
    await socket.write(new Uint8Array(BigInt64Array.of(id).buffer));
    return socket;
  };
  const { signal } = new AbortController();
  const expected = listener.expect(71n, signal);
  using one = await dial(71n);
  using oneThere = await expected;
  using two = await dial(72n);
  using twoThere = await listener.expect(72n, signal);
  await one.write(Uint8Array.of(1));
  await two.write(Uint8Array.of(2));
  assert.deepEqual(await readExactly(oneThere, 1), Uint8Array.of(1));
  assert.deepEqual(await readExactly(twoThere, 1), Uint8Array.of(2));
  for (const wrong of [3n, -1n, 73n, 71n]) {
    using unknown = await dial(wrong);
    assert.equal(await unknown.read(new Uint8Array(1)), null);
  }
  assert.equal(listener.dropped, 4);
  const tired = new AbortController();
  const waiting = assert.rejects(listener.expect(70n, tired.signal));
  tired.abort();
  await waiting;
  using silent = await Deno.connect({ hostname, port });
  await listener.close();
  assert.equal(await silent.read(new Uint8Array(1)).catch(() => null), null);
});
