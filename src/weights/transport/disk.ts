import { writeSafetensors } from "../../checkpoint/writer.ts";
import { ValidationError } from "../../errors.ts";
import { withDeadline } from "../../internal/deadline.ts";
import { asPermissionError } from "../../internal/permission.ts";
import { BEYOND_ANY_STEP_MS, onAll } from "../fleet/on_all.ts";
import type { ResolvedOptions } from "../resolved_options.ts";
import { refuseDeviceMemory } from "../source/source.ts";
import { oneAhead, StagingMemory, StagingRing } from "./staging.ts";
import type { Transport, TransportRun, TransportUpdate } from "./transport.ts";
import { basename, join, relative, resolve } from "node:path";
import { runtime } from "../../runtime/mod.ts";

const VERSION_FOLDER = /^weights-/;

/**
 * Weights through a folder that the servers see too: reuses the source's own folder where it can,
 * else writes a new one under a temporary name and renames it when it is whole.
 *
 * A server takes the folder's path as its model's path and name afterwards.
 */
export class DiskTransport implements Transport {
  readonly name = "disk";
  readonly needsSession = false;
  readonly isolates = true;
  readonly isConnected = true;
  readonly #options: ResolvedOptions;
  #writtenPath: string | undefined;

  /** Makes it; nothing is written yet. */
  constructor(options: ResolvedOptions) {
    this.#options = options;
  }

  connect(): Promise<void> {
    return Promise.resolve();
  }

  async prepare(run: TransportRun): Promise<readonly TransportUpdate[]> {
    const reused = this.#reusable(run);
    if (reused !== undefined) {
      return [this.#update(run, reused)];
    }
    const { disk, deadlines } = this.#options;
    if (disk === undefined) {
      throw new ValidationError(
        `transport "disk" needs \`disk.folder\` to write ${run.source.label} to`,
      );
    }
    refuseDeviceMemory(run.open, 'transport "disk"');
    const name = `weights-${run.version.replaceAll(/[^A-Za-z0-9._-]/g, "_")}-${
      crypto.randomUUID().slice(0, 8)
    }`;
    const path = join(disk.folder, name);
    await run.step("init", "write the folder", () => {
      const wait = {
        phase: "write the folder",
        timeoutMs: deadlines.updateMs * Math.max(1, run.buckets.length),
        peer: disk.folder,
        signal: run.signal,
      };
      return withDeadline(wait, (signal) => write(run, path, signal));
    });
    this.#writtenPath = path;
    return [this.#update(run, join(disk.serverFolder ?? resolve(disk.folder), name))];
  }

  /** All of the weights at once: servers read the folder by themselves. */
  #update(run: TransportRun, serverPath: string): TransportUpdate {
    return {
      message: "update from disk",
      byteLength: run.buckets.reduce((sum, bucket) => sum + bucket.byteLength, 0),
      send: async (call) => {
        await onAll(call.servers, call, (server, signal) =>
          call.whileUpdating(server, async () => {
            await server.client.updateWeightsFromDisk(serverPath, {
              signal,
              timeoutMs: BEYOND_ANY_STEP_MS,
              weightVersion: server.ownMark,
            });
          }));
        await this.#removeOld();
      },
    };
  }

  reset(): Promise<void> {
    return Promise.resolve();
  }

  async abort(): Promise<void> {
    const path = this.#writtenPath;
    this.#writtenPath = undefined;
    if (path !== undefined) await runtime().remove(path, { recursive: true }).catch(() => {});
  }

  [Symbol.asyncDispose](): Promise<void> {
    return Promise.resolve();
  }

  /** The source's own folder by the servers' path, when it holds just what is to be sent. */
  #reusable(run: TransportRun): string | undefined {
    const { folder } = run.source;
    const sent = run.buckets.reduce((sum, bucket) => sum + bucket.tensors.length, 0);
    if (folder === undefined || sent !== run.open.tensors.length) return undefined;
    const { disk } = this.#options;
    if (disk === undefined) return resolve(folder);
    const inside = relative(resolve(disk.folder), resolve(folder));
    if (inside === "" || inside.startsWith("..")) return undefined;
    return join(disk.serverFolder ?? resolve(disk.folder), inside);
  }

  /** Servers read a folder once, so older ones only take space. */
  async #removeOld(): Promise<void> {
    const { disk, logger } = this.#options;
    const written = this.#writtenPath;
    if (disk === undefined || written === undefined) return;
    const found: { path: string; modifiedAt: number }[] = [];
    for await (const entry of runtime().readDir(disk.folder)) {
      if (!entry.isDirectory || !VERSION_FOLDER.test(entry.name)) continue;
      if (entry.name === basename(written)) continue;
      const path = join(disk.folder, entry.name);
      const { mtime } = await runtime().stat(path);
      found.push({ path, modifiedAt: mtime?.getTime() ?? 0 });
    }
    found.sort((a, b) => b.modifiedAt - a.modifiedAt);
    for (const { path } of found.slice(Math.max(0, (disk.keep ?? 1) - 1))) {
      await runtime().remove(path, { recursive: true }).catch((error) => {
        logger.warn(`Old weights at ${path} could not be removed: ${error}`);
      });
    }
  }
}

/** One file for each bucket, so that no more than two buckets are in memory. */
async function write(run: TransportRun, path: string, signal: AbortSignal): Promise<void> {
  const temporary = `${path}.partial`;
  try {
    await runtime().mkdir(temporary, { recursive: true });
    const count = run.buckets.length;
    let number = 0;
    const ring = new StagingRing(run.open, new StagingMemory(), run.buckets);
    const staged = oneAhead(run.buckets, (bucket) => ring.read(bucket, signal));
    for await (const { bucket, parts } of staged) {
      const file = `model-${shardNumber(++number)}-of-${shardNumber(count)}.safetensors`;
      const tensors = bucket.tensors.map(({ name, dtype, shape, offset, sizeBytes }, i) => ({
        name,
        dtype,
        shape,
        data: bucket.flattened
          ? parts[0]!.bytes.subarray(offset, offset + sizeBytes)
          : parts[i]!.bytes,
      }));
      await writeSafetensors(join(temporary, file), tensors, { signal });
    }
    await runtime().rename(temporary, path);
  } catch (error) {
    await runtime().remove(temporary, { recursive: true }).catch(() => {});
    throw asPermissionError(error, `--allow-write=${path}`, `write ${path}`);
  }
}

function shardNumber(number: number): string {
  return String(number).padStart(5, "0");
}
