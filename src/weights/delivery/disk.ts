import { basename, join, relative, resolve } from "node:path";
import { writeSafetensors } from "../../checkpoint/writer.ts";
import { ValidationError } from "../../errors.ts";
import { withDeadline } from "../../internal/deadline.ts";
import { asPermissionError } from "../../internal/permission.ts";
import { onAll } from "../fleet.ts";
import type { ResolvedOptions } from "../options.ts";
import { StagingRing } from "../staging.ts";
import { refuseDeviceMemory } from "./refuse.ts";
import type { Delivery, SyncRun } from "./delivery.ts";

const VERSION_FOLDER = /^weights-/;

/**
 * Weights through a folder that the servers see too: reuses the source's own folder where it can,
 * else writes a new one under a temporary name and renames it when it is whole.
 *
 * A server takes the folder's path as its model's path and name afterwards.
 */
export class DiskDelivery implements Delivery {
  readonly transport = "disk";
  readonly needsSession = false;
  readonly isConnected = true;
  readonly #options: ResolvedOptions;
  #serverPath = "";
  #writtenPath: string | undefined;

  /** Makes it; nothing is written yet. */
  constructor(options: ResolvedOptions) {
    this.#options = options;
  }

  connect(): Promise<void> {
    return Promise.resolve();
  }

  async prepare(run: SyncRun): Promise<void> {
    const reused = this.#reusable(run);
    if (reused !== undefined) {
      this.#serverPath = reused;
      return;
    }
    const { disk, deadlines } = this.#options;
    if (disk === undefined) {
      throw new ValidationError(
        `transport "disk" needs disk: { folder } to write ${run.source.label} to`,
      );
    }
    refuseDeviceMemory(run, 'transport "disk"');
    const name = `weights-${run.version.replaceAll(/[^A-Za-z0-9._-]/g, "_")}-${
      crypto.randomUUID().slice(0, 8)
    }`;
    const path = join(disk.folder, name);
    await run.steps.run("init", "write the folder", () => {
      const wait = {
        phase: "write the folder",
        timeoutMs: deadlines.updateMs * Math.max(1, run.buckets.length),
        peer: disk.folder,
        signal: run.signal,
      };
      return withDeadline(wait, (signal) => write(run, path, signal));
    });
    this.#writtenPath = path;
    this.#serverPath = join(disk.serverFolder ?? resolve(disk.folder), name);
  }

  async deliver(run: SyncRun): Promise<void> {
    await run.steps.run("update", "update from disk", async () => {
      const call = {
        phase: "update from disk",
        timeoutMs: this.#options.deadlines.updateMs,
        signal: run.signal,
      };
      await onAll(
        run.servers,
        call,
        (server, signal) =>
          server.taking({ isFirst: true, isLast: true }, async () => {
            await server.client.updateWeightsFromDisk(this.#serverPath, { signal });
          }),
      );
    });
    run.steps.addBytes(run.buckets.reduce((sum, bucket) => sum + bucket.byteLength, 0));
    await this.#removeOld();
  }

  reset(): Promise<void> {
    return Promise.resolve();
  }

  async abort(): Promise<void> {
    const path = this.#writtenPath;
    this.#writtenPath = undefined;
    if (path !== undefined) await Deno.remove(path, { recursive: true }).catch(() => {});
  }

  [Symbol.asyncDispose](): Promise<void> {
    return Promise.resolve();
  }

  /** The source's own folder by the servers' path, when it holds just what is to be sent. */
  #reusable(run: SyncRun): string | undefined {
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
    for await (const entry of Deno.readDir(disk.folder)) {
      if (!entry.isDirectory || !VERSION_FOLDER.test(entry.name)) continue;
      if (entry.name === basename(written)) continue;
      const path = join(disk.folder, entry.name);
      const { mtime } = await Deno.stat(path);
      found.push({ path, modifiedAt: mtime?.getTime() ?? 0 });
    }
    found.sort((a, b) => b.modifiedAt - a.modifiedAt);
    for (const { path } of found.slice(Math.max(0, (disk.keep ?? 1) - 1))) {
      await Deno.remove(path, { recursive: true }).catch((error) => {
        logger.warn(`Old weights at ${path} could not be removed: ${error}`);
      });
    }
  }
}

/** One file for each bucket, so that no more than two buckets are in memory. */
async function write(run: SyncRun, path: string, signal: AbortSignal): Promise<void> {
  const temporary = `${path}.partial`;
  try {
    await Deno.mkdir(temporary, { recursive: true });
    const count = run.buckets.length;
    let number = 0;
    for await (const { bucket, parts } of new StagingRing(run.open).stage(run.buckets, signal)) {
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
    await Deno.rename(temporary, path);
  } catch (error) {
    await Deno.remove(temporary, { recursive: true }).catch(() => {});
    throw asPermissionError(error, `--allow-write=${path}`, `write ${path}`);
  }
}

function shardNumber(number: number): string {
  return String(number).padStart(5, "0");
}
