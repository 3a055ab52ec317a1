/**
 * A real SGLang server takes weights of the exact Qwen2.5-0.5B shapes (290 tensors, 988 MB) from a
 * rank 0 in Deno. Each update is checked with /weights_checker against the sums that the server
 * gives for the same checkpoint loaded from disk.
 */
import { deepEqual, equal } from "node:assert/strict";
import { flattenedPayload, namedPayload } from "../../src/weights/ipc/payload.ts";
import { median, type OpenedGroup, openGroup, record, timed, within } from "./support/gpu.ts";
import { type FileTensor, readHeader, readInto, Server, updateBody } from "./support/server.ts";

const server = new Server(Deno.env.get("GPU_SERVER") ?? "http://127.0.0.1:30000");
const folder = Deno.env.get("GPU_MODELS") ?? "/tmp/m";
const versions = ["b", "a"] as const;
type Version = (typeof versions)[number];
const fileOf = (version: Version) => `${folder}/q05b-${version}/model.safetensors`;

interface Loaded {
  readonly tensors: readonly FileTensor[];
  /** Pinned host memory. */
  readonly bytes: Record<Version, Uint8Array>;
  /** Device memory. */
  readonly address: Record<Version, bigint>;
  readonly byteLength: number;
  readonly sums: Record<Version, string>;
}

async function joinGroup(groupName: string): Promise<OpenedGroup> {
  const opened = await openGroup({ timeoutMs: 30_000, groupName });
  const { group, store } = opened;
  await group.connect(within());
  await server.must("/init_weights_update_group", {
    master_address: "127.0.0.1",
    master_port: store.port,
    rank_offset: 1,
    world_size: 2,
    group_name: group.groupName,
    backend: "nccl",
  });
  return opened;
}

async function leaveGroup({ group }: OpenedGroup): Promise<void> {
  const destroyed = server.must("/destroy_weights_update_group", { group_name: group.groupName });
  await Promise.all([group.close(), destroyed]);
}

async function load({ group }: OpenedGroup): Promise<Loaded> {
  const { tensors, dataOffset, byteLength } = await readHeader(fileOf("a"));
  const bytes = {} as Record<Version, Uint8Array>;
  const address = {} as Record<Version, bigint>;
  const sums = {} as Record<Version, string>;
  for (const version of versions) {
    const disk = await timed(() =>
      server.must("/update_weights_from_disk", { model_path: `${folder}/q05b-${version}` })
    );
    sums[version] = await server.checksum();
    const buffer = group.stagingBuffer(byteLength);
    const readMs = await timed(() => readInto(fileOf(version), dataOffset, buffer));
    bytes[version] = buffer;
    address[version] = await group.allocateDevice(byteLength);
    const copyMs = await timed(() => group.copyToDevice(address[version], buffer));
    record("server.load", { version, disk, readMs, copyMs, byteLength });
  }
  return { tensors, bytes, address, byteLength, sums };
}

interface Run {
  readonly totalMs: number;
  readonly sentMs: number;
}

/** Posts one request, broadcasts while it is under way, and waits for both. */
async function update(
  body: Record<string, unknown>,
  send: () => Promise<void>,
): Promise<Run> {
  const start = performance.now();
  const posted = server.must("/update_weights_from_distributed", body);
  await send();
  const sentMs = Math.round(performance.now() - start);
  await posted;
  return { totalMs: Math.round(performance.now() - start), sentMs };
}

function bucketsOf(tensors: readonly FileTensor[], limitBytes: number): FileTensor[][] {
  const buckets: FileTensor[][] = [];
  let used = Infinity;
  for (const tensor of tensors) {
    if (used + tensor.byteLength > limitBytes) {
      buckets.push([]);
      used = 0;
    }
    buckets.at(-1)!.push(tensor);
    used += tensor.byteLength;
  }
  return buckets;
}

Deno.test({
  name: "a real server takes full updates in every form, fifty in a row, each proven",
  sanitizeResources: false,
  sanitizeOps: false,
  async fn(t) {
    await server.ready(200_000);
    await using opened = await joinGroup("weight_update_group");
    const { group } = opened;
    const loaded = await load(opened);
    const { tensors, byteLength, sums } = loaded;
    const whole = updateBody(tensors, group.groupName, { load_format: "flattened_bucket" });
    const tokens = {} as Record<Version, number[]>;

    const series = async (name: string, times: number, run: (v: Version) => Promise<Run>) => {
      const runs: Run[] = [];
      for (let i = 0; i < times; i++) {
        const version = versions[i % 2]!;
        runs.push(await run(version));
        equal(await server.checksum(), sums[version], `${name}, update ${i + 1}`);
        tokens[version] ??= await server.tokens();
      }
      const later = runs.slice(1);
      record(`server.${name}`, {
        times,
        firstMs: runs[0]!.totalMs,
        medianMs: median(later.map(({ totalMs }) => totalMs)),
        sentMs: median(later.map(({ sentMs }) => sentMs)),
        allMs: runs.map(({ totalMs }) => totalMs).slice(0, 12),
      });
    };

    await t.step("flattened, from device memory", () =>
      series("flattenedDevice", 6, (v) => {
        const device = { address: loaded.address[v], byteLength };
        return update(whole, () => group.broadcastDevice([{ device, dtype: "uint8" }], within()));
      }));
    await t.step(
      "fifty flattened updates in a row, from pinned host memory",
      () =>
        series(
          "fiftyFlattenedHost",
          50,
          (v) =>
            update(
              whole,
              () => group.broadcast([{ bytes: loaded.bytes[v], dtype: "uint8" }], within()),
            ),
        ),
    );
    await t.step("greedy tokens equal those of the checkpoint from disk", async () => {
      for (const version of versions) {
        await server.must("/update_weights_from_disk", {
          model_path: `${folder}/q05b-${version}`,
        });
        deepEqual(await server.tokens(), tokens[version]);
      }
    });
    await t.step(
      "flattened buckets of 256 MiB, the next staged while one is sent",
      () =>
        series("flattenedBuckets", 6, async (v) => {
          const buckets = bucketsOf(tensors, 256 * 2 ** 20);
          const start = performance.now();
          const stage = (bucket: readonly FileTensor[]) => {
            const from = bucket[0]!.offset;
            const to = bucket.at(-1)!.offset + bucket.at(-1)!.byteLength;
            const bytes = loaded.bytes[v].subarray(from, to);
            return group.stage([{ bytes, dtype: "uint8" }], within());
          };
          let next = stage(buckets[0]!);
          for (const [i, bucket] of buckets.entries()) {
            const parts = await next;
            const after = buckets[i + 1];
            if (after) next = stage(after);
            const body = updateBody(bucket, group.groupName, {
              load_format: "flattened_bucket",
              flush_cache: after === undefined,
            });
            await update(body, () => group.broadcastDevice(parts, within()));
          }
          const totalMs = Math.round(performance.now() - start);
          return { totalMs, sentMs: totalMs };
        }),
    );
    await t.step(
      "one request, one broadcast for each tensor, from host memory",
      () =>
        series("oneRequest", 6, (v) => {
          const parts = tensors.map(({ dtype, offset, byteLength }) => ({
            dtype,
            bytes: loaded.bytes[v].subarray(offset, offset + byteLength),
          }));
          const body = updateBody(tensors, group.groupName);
          return update(body, () => group.broadcast(parts, within()));
        }),
    );
    await t.step("one request for each tensor", () =>
      series("requestPerTensor", 3, async (v) => {
        const start = performance.now();
        for (const [i, tensor] of tensors.entries()) {
          const { dtype, offset, byteLength } = tensor;
          const device = { address: loaded.address[v] + BigInt(offset), byteLength };
          const body = updateBody([tensor], group.groupName, {
            flush_cache: i === tensors.length - 1,
          });
          await update(body, () => group.broadcastDevice([{ device, dtype }], within()));
        }
        const totalMs = Math.round(performance.now() - start);
        return { totalMs, sentMs: totalMs };
      }));
    await t.step("CUDA IPC, flattened and by names", async () => {
      const memory = {
        a: await group.ipcMemory(loaded.address.a),
        b: await group.ipcMemory(loaded.address.b),
      };
      for (
        const [name, payload, more] of [
          ["ipcFlattened", flattenedPayload, { load_format: "flattened_bucket" }],
          ["ipcNamed", namedPayload, {}],
        ] as const
      ) {
        await series(name, 8, async (v) => {
          const start = performance.now();
          const text = payload(tensors, memory[v]);
          const sentMs = Number((performance.now() - start).toFixed(1));
          const body = { serialized_named_tensors: [text], flush_cache: true, ...more };
          await server.must("/update_weights_from_tensor", body);
          return { totalMs: Number((performance.now() - start).toFixed(1)), sentMs };
        });
      }
    });
    await t.step("the group is destroyed, and one of the same name opens and updates", async () => {
      record("server.destroyMs", Math.round(await timed(() => leaveGroup(opened))));
      await using again = await joinGroup("weight_update_group");
      await update(
        whole,
        () => again.group.broadcast([{ bytes: loaded.bytes.b, dtype: "uint8" }], within()),
      );
      equal(await server.checksum(), sums.b);
      await leaveGroup(again);
    });
  },
});
