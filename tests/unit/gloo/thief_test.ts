/**
 * Somebody on the same machine who knows no secret gets no weights and stops no sync. `deno task
 * test:thief` is the long form.
 */
import assert from "node:assert/strict";
import { GlooGroup, GlooPeer } from "../../../src/collective/gloo/mod.ts";
import { HEAD_BYTES } from "../../../src/collective/gloo/wire.ts";
import {
  encodeHead,
  Opcode,
  parseGlooRank,
  parseHead,
  rankKey,
} from "../../../src/collective/gloo/wire.ts";
import { TCPStoreClient } from "../../../src/rendezvous/mod.ts";

const JOINS = Number(Deno.env.get("JOINS") ?? 60);
const WORLD = 3;
const { signal } = new AbortController();
const secret = new Uint8Array(4096).fill(7);

/** Connects to a payload port as `id`, and asks for whatever is announced. Returns what it was sent. */
async function steal(hostname: string, port: number, id: bigint): Promise<number> {
  let stolen = 0;
  try {
    using socket = await Deno.connect({ hostname, port });
    await socket.write(new Uint8Array(BigInt64Array.of(id).buffer));
    const reader = socket.readable.getReader({ mode: "byob" });
    for (;;) {
      const { value, done } = await reader.read(new Uint8Array(HEAD_BYTES), { min: HEAD_BYTES });
      if (done || value.length < HEAD_BYTES) return stolen;
      const head = parseHead(value);
      if (head.opcode === Opcode.notifySendReady) {
        const asked = { opcode: Opcode.notifyRecvReady, slot: head.slot, length: head.length };
        await socket.write(encodeHead(asked));
      } else {
        stolen += head.length;
        await reader.read(new Uint8Array(head.length), { min: head.length });
      }
    }
  } catch {
    return stolen;
  }
}

Deno.test("a thief at the payload ports gets nothing, and every join and broadcast succeeds", async () => {
  let told = 0;
  for (let join = 0; join < JOINS; join++) {
    const groupName = `g-${crypto.randomUUID()}`;
    const group = await GlooGroup.open({
      masterAddress: "127.0.0.1",
      masterPort: 0,
      groupName,
      worldSize: WORLD,
    }, { signal });
    // The test reads where the group listens; a thief finds it in /proc/net/tcp.
    await using store = await TCPStoreClient.connect({
      hostname: "127.0.0.1",
      port: group.masterPort,
      keyPrefix: "",
      timeoutMs: Infinity,
    });
    const { address } = parseGlooRank(await store.get(rankKey(groupName, 0)));
    const thieves = [0n, 1n, 2n, 1n, -1n, BigInt(join) << 40n]
      .map((id) => steal("127.0.0.1", address.port, id));
    // The thieves are at the door before the ranks are.
    const peers = Promise.all([1, 2].map((rank) =>
      GlooPeer.join({
        masterAddress: "127.0.0.1",
        masterPort: group.masterPort,
        groupName,
        rank,
        worldSize: WORLD,
      })
    ));
    await group.connect({ signal });
    told += group.strangers;
    const targets = (await peers).map((peer) => ({ peer, bytes: new Uint8Array(secret.length) }));
    await Promise.all([
      group.broadcast([{ bytes: secret, dtype: "uint8" }], { signal }),
      ...targets.map(({ peer, bytes }) => peer.receive(bytes)),
    ]);
    for (const { bytes } of targets) assert.deepEqual(bytes, secret);
    await Promise.all((await peers).map((peer) => peer.close()));
    await group.close();
    assert.deepEqual(await Promise.all(thieves), [0, 0, 0, 0, 0, 0]);
  }
  // Not every thief has spoken when the last rank is there, but most have.
  assert.ok(told > JOINS, `${told} strangers were told of`);
});

Deno.test("silent connections do not keep a rank from joining", async () => {
  const groupName = `g-${crypto.randomUUID()}`;
  const group = await GlooGroup.open({
    masterAddress: "127.0.0.1",
    masterPort: 0,
    groupName,
    worldSize: 2,
  }, { signal });
  await using store = await TCPStoreClient.connect({
    hostname: "127.0.0.1",
    port: group.masterPort,
    keyPrefix: "",
    timeoutMs: Infinity,
  });
  const { address } = parseGlooRank(await store.get(rankKey(groupName, 0)));
  const silent: Deno.TcpConn[] = [];
  for (let i = 0; i < 200; i++) {
    silent.push(await Deno.connect({ hostname: "127.0.0.1", port: address.port }));
  }
  const peer = GlooPeer.join({
    masterAddress: "127.0.0.1",
    masterPort: group.masterPort,
    groupName,
    rank: 1,
    worldSize: 2,
  });
  await group.connect({ signal });
  await (await peer).close();
  for (const socket of silent) socket.close();
  await group.close();
});
