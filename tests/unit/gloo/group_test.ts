import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { GlooGroup } from "../../../src/collective/gloo/group.ts";
import { GlooPeer } from "../../../src/collective/gloo/peer.ts";
import { parseGlooRank, rankKey } from "../../../src/collective/gloo/wire.ts";
import type { BroadcastPart } from "../../../src/collective/group.ts";
import {
  AbortedError,
  ProtocolError,
  StateError,
  TimeoutError,
  UnreachableError,
  ValidationError,
} from "../../../src/errors.ts";
import { TCPStoreClient, TCPStoreServer } from "../../../src/rendezvous/mod.ts";
import { FakeClock, turns, until } from "../../_support/clock.ts";

const never = new AbortController().signal;

function open(worldSize: number, masterPort = 0): Promise<GlooGroup> {
  return GlooGroup.open(
    { masterAddress: "127.0.0.1", masterPort, groupName: "g", worldSize },
    { signal: never },
  );
}

function join(group: GlooGroup, rank: number): Promise<GlooPeer> {
  const { masterAddress, masterPort, groupName, worldSize } = group;
  return GlooPeer.join({ masterAddress, masterPort, groupName, worldSize, rank });
}

interface World extends AsyncDisposable {
  readonly group: GlooGroup;
  readonly peers: readonly GlooPeer[];
}

async function openWorld(worldSize: number): Promise<World> {
  const group = await open(worldSize);
  const joining = Array.from({ length: worldSize - 1 }, (_, i) => join(group, i + 1));
  await group.connect({ signal: never });
  const peers = await Promise.all(joining);
  return {
    group,
    peers,
    async [Symbol.asyncDispose]() {
      await Promise.all([group.close(), ...peers.map((peer) => peer.close())]);
    },
  };
}

function part(sizeBytes: number, seed: number): BroadcastPart {
  const bytes = Uint8Array.from(
    { length: sizeBytes },
    (_, i) => (i * 31 + seed * 7 + (i >> 8)) & 255,
  );
  return { bytes, dtype: "uint8" };
}

for (const worldSize of [2, 3, 4, 5, 9]) {
  Deno.test(`in a world of ${worldSize} every rank receives every byte`, async () => {
    await using world = await openWorld(worldSize);
    const parts = [0, 1, 47, 48, 65_536, 65_537, 1_000_003].map(part);
    const received = world.peers.map(async (peer) => {
      const targets = parts.map(({ bytes }) => new Uint8Array(bytes.length));
      await Promise.all(targets.map((target) => peer.receive(target)));
      return targets;
    });
    await world.group.broadcast(parts, { signal: never });
    for (const targets of await Promise.all(received)) {
      targets.forEach((target, i) => assert.deepEqual(target, parts[i]!.bytes));
    }
    assert.equal(world.group.failure, undefined);
  });
}

Deno.test("broadcasts are matched by order, whoever comes first", async () => {
  await using world = await openWorld(2);
  const [peer] = world.peers as [GlooPeer];
  const targets = [new Uint8Array(3), new Uint8Array(5)];
  const early = targets.map((target) => peer.receive(target));
  await world.group.broadcast([part(3, 1)], { signal: never });
  await world.group.broadcast([part(5, 2)], { signal: never });
  await Promise.all(early);
  const late = new Uint8Array(4);
  const sending = world.group.broadcast([part(4, 3)], { signal: never });
  await turns(5);
  await peer.receive(late);
  await sending;
  assert.deepEqual([...targets, late], [part(3, 1).bytes, part(5, 2).bytes, part(4, 3).bytes]);
});

Deno.test("a server that expects other sizes is refused before a payload leaves", async () => {
  for (const expected of [3, 5]) {
    await using world = await openWorld(2);
    const target = new Uint8Array(expected);
    const receiving = assert.rejects(world.peers[0]!.receive(target));
    await assert.rejects(world.group.broadcast([part(4, 1)], { signal: never }), (error) => {
      return error instanceof ProtocolError &&
        error.message.includes(`expects ${expected} bytes in broadcast 0 where 4`);
    });
    await receiving;
    assert.deepEqual(target, new Uint8Array(expected));
    await assert.rejects(world.group.broadcast([part(4, 1)], { signal: never }), ProtocolError);
  }
});

Deno.test("a rank that leaves fails the broadcast under way and shows as the group's failure", async () => {
  await using world = await openWorld(3);
  const sending = assert.rejects(
    world.group.broadcast([part(4, 1)], { signal: never }),
    (error) => error instanceof UnreachableError && /rank 2 was lost/.test(error.message),
  );
  await world.peers[1]!.close();
  await sending;
  assert.match(world.group.failure!.message, /rank 2/);
});

Deno.test("rank 0 that closes fails what the others wait for", async () => {
  await using world = await openWorld(2);
  const receiving = assert.rejects(world.peers[0]!.receive(new Uint8Array(4)), UnreachableError);
  await world.group.close();
  await receiving;
  await assert.rejects(world.group.broadcast([part(4, 1)], { signal: never }), StateError);
});

Deno.test("when rank 0 is lost, nobody waits for a rank that itself waits for rank 0", async () => {
  await using world = await openWorld(8);
  const receiving = world.peers.map((peer) => assert.rejects(peer.receive(new Uint8Array(4))));
  await world.group.close();
  await Promise.all(receiving);
});

Deno.test("when rank 1 is lost, those below it fail, and the others as soon as rank 0 ends", async () => {
  await using world = await openWorld(8);
  const receive = (rank: number) =>
    assert.rejects(world.peers[rank - 1]!.receive(new Uint8Array(4)));
  const below = [3, 5, 7].map(receive);
  await world.peers[0]!.close();
  await Promise.all(below);
  const beside = [2, 4, 6].map(receive);
  const sending = world.group.broadcast([part(5, 1)], { signal: never });
  await assert.rejects(sending);
  await world.group.abort(new StateError("a rank is lost"));
  await Promise.all(beside);
});

Deno.test("a rank that is done may leave while others still take part", async () => {
  await using world = await openWorld(4);
  const [one, two, three] = world.peers as [GlooPeer, GlooPeer, GlooPeer];
  const targets = [0, 1, 2].map(() => new Uint8Array(4));
  const sending = world.group.broadcast([part(4, 1)], { signal: never });
  await two.receive(targets[1]!);
  await two.close();
  await Promise.all([sending, one.receive(targets[0]!), three.receive(targets[2]!)]);
  for (const target of targets) assert.deepEqual(target, part(4, 1).bytes);
});

Deno.test("once all ranks are there, the payload port takes no further connection", async () => {
  await using world = await openWorld(2);
  const place = { hostname: "127.0.0.1", port: world.group.masterPort, keyPrefix: "" };
  await using store = await TCPStoreClient.connect(place);
  const { port } = parseGlooRank(await store.get(rankKey("g", 0))).address;
  await assert.rejects(
    Deno.connect({ hostname: "127.0.0.1", port }),
    Deno.errors.ConnectionRefused,
  );
});

Deno.test("a broadcast that is aborted rejects at once with the signal's reason", async () => {
  await using world = await openWorld(2);
  const controller = new AbortController();
  const sending = world.group.broadcast([part(4, 1)], { signal: controller.signal });
  controller.abort(new AbortedError("update"));
  await assert.rejects(sending, (error) => error instanceof AbortedError);
  await world.group.abort(new AbortedError("update"));
});

Deno.test("a receive that is aborted rejects with the signal's reason and ends the rank", async () => {
  await using world = await openWorld(2);
  const [peer] = world.peers as [GlooPeer];
  const controller = new AbortController();
  const receiving = peer.receive(new Uint8Array(4), { signal: controller.signal });
  const other = assert.rejects(peer.receive(new Uint8Array(4)), /aborted/);
  controller.abort(new AbortedError("receive"));
  await assert.rejects(receiving, AbortedError);
  await other;
  await assert.rejects(peer.receive(new Uint8Array(4)), StateError);
});

Deno.test("abort finishes a payload that is on the wire", async () => {
  await using world = await openWorld(2);
  const big = part(12_000_000, 1);
  const target = new Uint8Array(big.bytes.length);
  const receiving = world.peers[0]!.receive(target);
  const sending = world.group.broadcast([big, part(5, 2)], { signal: never });
  const rejected = assert.rejects(sending);
  await until(() => target[1] !== 0);
  await world.group.abort(new AbortedError("update"));
  await receiving;
  await rejected;
  assert.equal(Buffer.compare(target, big.bytes), 0);
});

Deno.test("a world that is not complete in time tells how far it came", async () => {
  await using group = await open(3);
  const lonely = join(group, 1).catch((error) => error);
  const late = new AbortController();
  const connecting = assert.rejects(group.connect({ signal: late.signal }), { message: "late" });
  // It waits for the third rank, and asks for it now and then.
  const howFar = /2 of 3 ranks connected; 1 came to the store, last request (wait|get)/;
  await until(() => howFar.test(group.heard));
  late.abort(new Error("late"));
  await connecting;
  assert.match(group.heard, howFar);
  await group.abort(new StateError("not complete"));
  assert.ok(await lonely instanceof Error);
});

Deno.test("a rank that joins a world that is not complete times out and says what it knows", async () => {
  using clock = FakeClock.install();
  await using group = await open(3);
  const place = { hostname: "127.0.0.1", keyPrefix: "" };
  await using original = await TCPStoreClient.connect({ ...place, port: group.masterPort });
  // A store that knows rank 0 alone and tells when it is asked for rank 1.
  await using store = TCPStoreServer.listen();
  store.set(rankKey("g", 0), await original.get(rankKey("g", 0)));
  const asked = Promise.withResolvers<void>();
  store.onMissing((key) => {
    if (key === rankKey("g", 1)) asked.resolve();
    return undefined;
  });
  const joining = assert.rejects(
    GlooPeer.join({
      masterAddress: "127.0.0.1",
      masterPort: store.port,
      groupName: "g",
      worldSize: 3,
      rank: 2,
      timeoutMs: 60_000,
    }),
    (error) => error instanceof TimeoutError && /1 of 2 other ranks/.test(error.message),
  );
  await asked.promise;
  await clock.advance(60_000);
  await joining;
});

Deno.test("rank 0 that closes during the rendezvous ends the others' joining", async () => {
  const group = await open(3);
  const joining = join(group, 1);
  const rejected = assert.rejects(joining, UnreachableError);
  await until(() => /1 came to the store/.test(group.heard));
  await group.close();
  await rejected;
});

Deno.test("strangers on the store and on the payload port disturb nobody", async () => {
  const group = await open(2);
  const joining = join(group, 1);
  const noise = crypto.getRandomValues(new Uint8Array(64));
  using stranger = await Deno.connect({ hostname: "127.0.0.1", port: group.masterPort });
  await stranger.write(noise);
  await group.connect({ signal: never });
  await using peer = await joining;
  const target = new Uint8Array(4);
  await Promise.all([peer.receive(target), group.broadcast([part(4, 9)], { signal: never })]);
  assert.deepEqual(target, part(4, 9).bytes);
  await group.close();
});

Deno.test("a group's port can be used again as soon as the group is closed", async () => {
  const first = await open(2);
  const port = first.masterPort;
  await first.close();
  await using second = await open(2, port);
  assert.equal(second.masterPort, port);
});

Deno.test("a group that cannot be opened leaves no port behind", async () => {
  await using taken = TCPStoreServer.listen();
  await assert.rejects(open(2, taken.port), UnreachableError);
  await assert.rejects(open(1), ValidationError);
  await assert.rejects(
    GlooGroup.open(
      { masterAddress: "0.0.0.0", masterPort: 0, groupName: "g", worldSize: 2 },
      { signal: never },
    ),
    (error) => error instanceof ValidationError && /bindAddress/.test(error.message),
  );
});

Deno.test("a group is opened by the name of its host and publishes the address", async () => {
  const place = { masterAddress: "localhost", bindAddress: "127.0.0.1", masterPort: 0 };
  await using group = await GlooGroup.open({ ...place, groupName: "g", worldSize: 2 }, {
    signal: never,
  });
  const joining = join(group, 1);
  await group.connect({ signal: never });
  await using peer = await joining;
  assert.equal(peer.failure, undefined);
});

Deno.test("a broadcast before connect and a rank outside of the world are refused", async () => {
  await using group = await open(2);
  await assert.rejects(group.broadcast([part(1, 1)], { signal: never }), StateError);
  await assert.rejects(join(group, 2), ValidationError);
  await assert.rejects(join(group, 0), ValidationError);
});
