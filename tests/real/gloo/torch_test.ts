/** Our rank 0 and our other ranks in one gloo group with real torch processes. */
import assert from "node:assert/strict";
import { type DType, itemSizeBytes } from "../../../src/checkpoint/mod.ts";
import { GlooGroup } from "../../../src/collective/gloo/group.ts";
import { GlooPeer } from "../../../src/collective/gloo/peer.ts";
import type { BroadcastPart } from "../../../src/collective/group.ts";
import { UnreachableError } from "../../../src/errors.ts";
import { freePort } from "../../_support/free_port.ts";
import { pythonOf } from "../../_support/real.ts";

type Version = "0.5.16" | "0.5.23";
interface Tensor {
  readonly dtype: DType;
  readonly count: number;
}

const groupName = "weight_update_group";
const script = new URL("rank.py", import.meta.url).pathname;
const ROUNDS = 2;

/** Every type that torch's gloo broadcasts, empty and odd sizes, and one beyond socket buffers. */
const tensors: readonly Tensor[] = [
  { dtype: "bfloat16", count: 4_000_001 },
  { dtype: "float32", count: 7 },
  { dtype: "int64", count: 0 },
  { dtype: "float16", count: 65_537 },
  { dtype: "int64", count: 3 },
  { dtype: "float32", count: 1_000_000 },
  { dtype: "uint8", count: 1 },
  { dtype: "bfloat16", count: 0 },
  { dtype: "float64", count: 12 },
  { dtype: "int32", count: 50 },
];

const sizeOf = ({ dtype, count }: Tensor) => count * itemSizeBytes(dtype);

async function sha256(bytes: Uint8Array<ArrayBuffer>): Promise<string> {
  return new Uint8Array(await crypto.subtle.digest("SHA-256", bytes)).toHex();
}

function randomPart(tensor: Tensor): BroadcastPart & { bytes: Uint8Array<ArrayBuffer> } {
  const bytes = new Uint8Array(sizeOf(tensor));
  for (let at = 0; at < bytes.length; at += 65_536) {
    crypto.getRandomValues(bytes.subarray(at, at + 65_536));
  }
  return { bytes, dtype: tensor.dtype };
}

interface TorchRank {
  readonly process: Deno.ChildProcess;
  /** What it printed: one line for each round. */
  readonly lines: Promise<Array<{ sha256?: string[]; error?: string }>>;
}

function startTorch(
  version: Version,
  place: { port: number; rank: number; worldSize: number; env?: Record<string, string> },
): TorchRank {
  const spec = tensors.map(({ dtype, count }) => `${dtype}:${count}`).join(",");
  const process = new Deno.Command(pythonOf(version), {
    args: [script, String(place.port), String(place.rank), String(place.worldSize), spec],
    env: { LD_LIBRARY_PATH: "", OMP_NUM_THREADS: "1", ...place.env },
    stdout: "piped",
    stderr: "null",
  }).spawn();
  const lines = process.stdout.text().then((text) =>
    text.trim().split("\n").filter((line) => line !== "").map((line) => JSON.parse(line))
  );
  return { process, lines };
}

function openGroup(worldSize: number, bindAddress?: string): Promise<GlooGroup> {
  return GlooGroup.open(
    { masterAddress: "127.0.0.1", bindAddress, masterPort: 0, groupName, worldSize },
    { signal: AbortSignal.timeout(120_000) },
  );
}

async function receiveRounds(place: { port: number; rank: number; worldSize: number }) {
  await using peer = await GlooPeer.join({
    masterAddress: "127.0.0.1",
    masterPort: place.port,
    groupName,
    worldSize: place.worldSize,
    rank: place.rank,
    timeoutMs: 120_000,
  });
  const rounds: string[][] = [];
  for (let round = 0; round < ROUNDS; round++) {
    const targets = tensors.map((tensor) => new Uint8Array(sizeOf(tensor)));
    await Promise.all(targets.map((target) => peer.receive(target)));
    rounds.push(await Promise.all(targets.map(sha256)));
  }
  return rounds;
}

const worlds: ReadonlyArray<{ version: Version; worldSize: number; ours: number[] }> = [
  { version: "0.5.16", worldSize: 2, ours: [] },
  { version: "0.5.23", worldSize: 2, ours: [] },
  { version: "0.5.16", worldSize: 3, ours: [] },
  { version: "0.5.16", worldSize: 4, ours: [] },
  { version: "0.5.23", worldSize: 4, ours: [1, 2] },
  { version: "0.5.16", worldSize: 4, ours: [1, 3] },
];

for (const { version, worldSize, ours } of worlds) {
  const others = ours.length === 0 ? "" : `, ours as ranks ${ours.join(" and ")}`;
  Deno.test(`our rank 0 reaches torch of SGLang ${version} bit for bit in a world of ${worldSize}${others}`, async () => {
    const signal = AbortSignal.timeout(180_000);
    await using group = await openGroup(worldSize);
    const port = group.masterPort;
    const ranks = Array.from({ length: worldSize - 1 }, (_, i) => i + 1);
    const torch = ranks.filter((rank) => !ours.includes(rank))
      .map((rank) => startTorch(version, { port, rank, worldSize }));
    const received = ours.map((rank) => receiveRounds({ port, rank, worldSize }));
    await group.connect({ signal });
    const expected: string[][] = [];
    for (let round = 0; round < ROUNDS; round++) {
      const parts = tensors.map(randomPart);
      await group.broadcast(parts, { signal });
      expected.push(await Promise.all(parts.map((part) => sha256(part.bytes))));
    }
    for (const rank of torch) {
      assert.deepEqual((await rank.lines).map((line) => line.sha256 ?? line.error), expected);
      assert.equal((await rank.process.status).code, 0);
    }
    for (const rounds of await Promise.all(received)) assert.deepEqual(rounds, expected);
  });
}

for (const [version, ours] of [["0.5.16", [1]], ["0.5.23", [1, 2, 3]]] as const) {
  Deno.test(`torch of SGLang ${version} as rank 0 reaches our ranks ${ours.join(", ")} of 4`, async () => {
    const worldSize = 4;
    const port = freePort();
    const torch = [0, 1, 2, 3].filter((rank) => !(ours as readonly number[]).includes(rank))
      .map((rank) => startTorch(version, { port, rank, worldSize }));
    const received = await Promise.all(
      ours.map((rank) => receiveRounds({ port, rank, worldSize })),
    );
    const root = (await torch[0]!.lines).map((line) => line.sha256);
    assert.equal(root.length, ROUNDS);
    for (const rounds of received) assert.deepEqual(rounds, root);
    for (const rank of torch) {
      assert.deepEqual((await rank.lines).map((line) => line.sha256), root);
      await rank.process.status;
    }
  });
}

Deno.test("torch ranks that connect lazily are reached, and a group on all interfaces", async () => {
  const signal = AbortSignal.timeout(180_000);
  await using group = await openGroup(3, "0.0.0.0");
  const env = { TORCH_GLOO_LAZY_INIT: "1" };
  const torch = [1, 2].map((rank) =>
    startTorch("0.5.16", { port: group.masterPort, rank, worldSize: 3, env })
  );
  await group.connect({ signal });
  const parts = tensors.map(randomPart);
  await group.broadcast(parts, { signal });
  await group.broadcast(parts, { signal });
  const expected = await Promise.all(parts.map((part) => sha256(part.bytes)));
  for (const rank of torch) {
    assert.deepEqual((await rank.lines).map((line) => line.sha256), [expected, expected]);
    await rank.process.status;
  }
});

Deno.test("a torch rank that is killed fails the broadcast at once", async () => {
  const signal = AbortSignal.timeout(180_000);
  await using group = await openGroup(2);
  const torch = startTorch("0.5.16", { port: group.masterPort, rank: 1, worldSize: 2 });
  await group.connect({ signal });
  torch.process.kill("SIGKILL");
  await torch.process.status;
  await torch.lines;
  await assert.rejects(
    (async () => {
      for (;;) await group.broadcast([randomPart(tensors[0]!)], { signal });
    })(),
    (error) => error instanceof UnreachableError && /rank 1 was lost/.test(error.message),
  );
});

Deno.test("our rank 0 that closes frees a torch rank that waits, with an error at once", async () => {
  const signal = AbortSignal.timeout(180_000);
  const group = await openGroup(2);
  const torch = startTorch("0.5.16", { port: group.masterPort, rank: 1, worldSize: 2 });
  await group.connect({ signal });
  await group.broadcast([randomPart(tensors[0]!)], { signal });
  await group.close();
  const lines = await torch.lines;
  assert.equal(lines.length, 1);
  assert.match(lines[0]!.error!, /closed by peer|reset/i);
  await torch.process.status;
});
