import assert from "node:assert/strict";
import { ProtocolError } from "../../../src/errors.ts";
import { defaultStoreLimits, type StoreLimits } from "../../../src/rendezvous/limits.ts";
import { TCPStoreClient, TCPStoreServer } from "../../../src/rendezvous/mod.ts";
import type { StoreRequest } from "../../../src/rendezvous/request.ts";
import { StoreSession } from "../../../src/rendezvous/session.ts";
import { KeyTable } from "../../../src/rendezvous/table.ts";
import { concat, encodeRequest, utf8 } from "./_encode.ts";

/** Small, so that the conversations run into them. */
const limits: StoreLimits = {
  ...defaultStoreLimits,
  maxKeys: 40,
  maxKeyBytes: 32,
  maxValueBytes: 200,
  maxStoredBytes: 3_000,
  maxMessageBytes: 600,
};

/** xorshift32: the same conversations in every run. */
function randomSource(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % below;
  };
}

type Random = ReturnType<typeof randomSource>;

function randomRequest(random: Random): StoreRequest {
  const key = `/k${random(60)}`;
  const value = new Uint8Array(random(60));
  const keys = Array.from({ length: random(4) }, () => `/k${random(60)}`);
  const all: StoreRequest[] = [
    { op: "ping", nonce: Uint8Array.of(1, 2, 3, 4) },
    { op: "set", key, value },
    { op: "append", key, value },
    { op: "compareSet", key, expected: new Uint8Array(0), desired: value },
    { op: "get", key },
    { op: "add", key: `/n${random(3)}`, delta: BigInt(random(1000)) },
    { op: "check", keys },
    { op: "wait", keys },
    { op: "cancelWait" },
    { op: "getNumKeys" },
    { op: "deleteKey", key },
    { op: "multiGet", keys },
    { op: "multiSet", entries: keys.map((name) => [name, value]) },
  ];
  return all[random(all.length)]!;
}

function mutatedConversation(random: Random): Uint8Array {
  const requests = Array.from({ length: 1 + random(5) }, () => randomRequest(random));
  const bytes = concat(...[{ op: "validate" } as const, ...requests].map(encodeRequest));
  for (let i = random(4); i > 0; i--) bytes[random(bytes.length)] = random(256);
  switch (random(5)) {
    case 0:
      return bytes.subarray(0, random(bytes.length));
    case 1:
      return concat(bytes, bytes.subarray(random(bytes.length)));
    case 2: {
      // A huge number somewhere, most likely across a length.
      const at = random(bytes.length);
      return bytes.fill(0xff, at, at + 8);
    }
    default:
      return bytes;
  }
}

Deno.test("100,000 mutated conversations end in an answer or a refusal, within the limits", () => {
  const random = randomSource(0x5eed);
  const table = new KeyTable(limits);
  let refused = 0;
  let answered = 0;
  for (let i = 0; i < 100_000; i++) {
    const bytes = mutatedConversation(random);
    const session = new StoreSession(table, { limits, reply: () => answered++ });
    try {
      for (let at = 0; at < bytes.length;) {
        const end = at + 1 + random(64);
        session.push(bytes.subarray(at, end));
        at = end;
        while (session.step());
        assert.ok(session.heldBytes <= 2 * limits.maxMessageBytes + 64);
      }
    } catch (error) {
      if (!(error instanceof ProtocolError)) throw error;
      refused++;
    }
    session.close();
  }
  assert.ok(table.storedBytes <= limits.maxStoredBytes && table.size <= limits.maxKeys);
  assert.equal(table.waiting, 0);
  assert.ok(refused > 10_000 && answered > 10_000, `${refused} refused, ${answered} answered`);
});

Deno.test("300 mutated conversations over sockets leave the server serving", async () => {
  const random = randomSource(0xfeed);
  await using server = TCPStoreServer.listen(limits);
  await using client = await TCPStoreClient.connect({ hostname: "127.0.0.1", port: server.port });
  await client.set("steady", utf8("yes"));
  for (let i = 0; i < 300; i += 30) {
    await Promise.all(
      Array.from({ length: 30 }, () => talk(server.port, mutatedConversation(random))),
    );
  }
  server.delete("/steady");
  await client.set("steady", utf8("still"));
  assert.deepEqual(await client.get("steady"), utf8("still"));
  assert.equal(server.peersSeen.connected, 1);
  assert.ok(server.peersSeen.clients > 300);
});

async function talk(port: number, bytes: Uint8Array): Promise<void> {
  using socket = await Deno.connect({ hostname: "127.0.0.1", port });
  try {
    await socket.write(bytes);
    await socket.closeWrite();
    const buffer = new Uint8Array(4096);
    while (await socket.read(buffer) !== null);
  } catch {
    // The server may drop the connection while we still write.
  }
}
