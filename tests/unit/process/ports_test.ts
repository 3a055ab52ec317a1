import assert from "node:assert/strict";
import { StateError, ValidationError } from "../../../src/errors.ts";
import { getOpenPort, isPortFree, reservePorts, untilPortFree } from "../../../src/process/mod.ts";
import { FakeClock } from "../../_support/clock.ts";

// Below the ports that Linux gives to outgoing connections, so that none of those is in the way.
const range = { from: 10_000, to: 10_191 };

// case 18

Deno.test("a port that is picked is from 1 to 55535 and free", () => {
  for (let i = 0; i < 20; i++) {
    const port = getOpenPort();
    assert.ok(port >= 1 && port <= 55_535, `${port}`);
    assert.ok(isPortFree(port));
  }
});

Deno.test("ports of leases that live at once never meet, and all are below 55535", () => {
  const leases = Array.from({ length: 5 }, () => reservePorts({ count: 3, range }));
  try {
    const ports = leases.flatMap((lease) => lease.ports);
    assert.equal(new Set(ports).size, 15);
    for (const port of ports) {
      assert.ok(port >= range.from && port <= range.to);
      assert.equal(isPortFree(port), false, "held until it is released");
    }
  } finally {
    for (const lease of leases) lease[Symbol.dispose]();
  }
});

Deno.test("released ports can be bound, yet no other lease gets them", () => {
  using lease = reservePorts({ count: 2, range });
  lease.release();
  for (const port of lease.ports) assert.ok(isPortFree(port));
  // Every block of the range but the one above is taken, and then there is none left.
  const others = [];
  try {
    for (let i = 0; i < 11; i++) others.push(reservePorts({ count: 1, range }));
    const taken = new Set(lease.ports);
    for (const other of others) for (const port of other.ports) assert.ok(!taken.has(port));
    assert.throws(() => reservePorts({ count: 1, range }), StateError);
  } finally {
    for (const other of others) other[Symbol.dispose]();
  }
});

Deno.test("a port that another program has is passed over", () => {
  const small = { from: 10_192, to: 10_223 };
  const listener = Deno.listen({ hostname: "127.0.0.1", port: 10_192 });
  try {
    using lease = reservePorts({ count: 1, range: small });
    assert.deepEqual(lease.ports, [10_208]);
  } finally {
    listener.close();
  }
});

Deno.test("a server that takes ports far from its first keeps them all to itself", () => {
  const wide = { from: 10_224, to: 10_591 };
  using lease = reservePorts({ count: 2, span: 320, range: wide });
  assert.deepEqual(lease.ports.length, 2);
  const neighbours = [];
  try {
    const end = lease.ports[0]! + 320;
    for (;;) {
      const neighbour = tryReserve(wide);
      if (neighbour === undefined) break;
      neighbours.push(neighbour);
      const port = neighbour.ports[0]!;
      assert.ok(port < lease.ports[0]! || port >= end, `${port} is inside the span`);
    }
    assert.ok(neighbours.length > 0);
  } finally {
    for (const neighbour of neighbours) neighbour[Symbol.dispose]();
  }
});

function tryReserve(range: { from: number; to: number }) {
  try {
    return reservePorts({ count: 1, range });
  } catch (error) {
    if (error instanceof StateError) return undefined;
    throw error;
  }
}

Deno.test("a range or a number that makes no sense is refused", () => {
  assert.throws(() => reservePorts({ count: 0 }), ValidationError);
  assert.throws(() => reservePorts({ count: 1, range: { from: 60_000, to: 60_100 } }), {
    message: "A port to reserve must be from 1 to 55535, not 60000",
  });
  assert.throws(() => reservePorts({ count: 40, range: { from: 10_000, to: 10_012 } }), {
    message: /too small/,
  });
});

Deno.test({
  name: "without permission to listen the error names the flag",
  permissions: { net: false },
  fn() {
    assert.throws(() => reservePorts({ count: 1 }), {
      name: "PermissionError",
      flag: "--allow-net=127.0.0.1",
    });
  },
});

Deno.test("a port that is let go is waited for, one that is kept only so long", async () => {
  using clock = FakeClock.install();
  const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const { port } = listener.addr;
  let isOver = false;
  const kept = untilPortFree(port, { timeoutMs: 1_000 }).then(() => isOver = true);
  await clock.advance(900);
  assert.equal(isOver, false);
  await clock.advance(200);
  await kept;
  const waited = untilPortFree(port, { timeoutMs: Infinity });
  await clock.advance(60_000);
  listener.close();
  // Another program may have it for a moment.
  await clock.pass(waited, { ms: 50, isStuck: () => clock.pending > 0 });
});
