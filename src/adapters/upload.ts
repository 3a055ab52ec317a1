import type { SGLangClient } from "../client/client.ts";
import type { CallOptions } from "../client/types.ts";
import { CheckpointError, HttpError, LimitError, UnsupportedError } from "../errors.ts";
import { hostOf, isLoopback } from "../internal/hostname.ts";
import { stampOf } from "../internal/regular_file.ts";
import { flattenedByValue } from "../weights/ipc/by_value.ts";
import { CONFIG_FILE, type ReadAdapter, TENSOR_FILE } from "./adapter.ts";
import { Handover } from "./handover.ts";
import { type Matrices, targetsOf, tensorsOf } from "./matrices.ts";
import { toBase64 } from "../internal/text_of_bytes.ts";

/** How an adapter reached a server. */
export type AdapterVia = "tensors" | "path";

/** Longest payload unless another is asked for. */
export const DEFAULT_PAYLOAD_BYTES = 256 * 2 ** 20;
/** Longest payload at all: base64 of it must fit the longest text of the engine of JavaScript. */
export const MAX_PAYLOAD_BYTES = 384 * 2 ** 20;

/** An adapter as it is sent, to all servers and to those that join later. */
export interface AdapterUpload {
  /** How it travels. */
  readonly via: AdapterVia;
  /** Rank of its matrices. */
  readonly rank: number;
  /** Modules that it changes. */
  readonly targets: readonly string[];
  /** Bytes of the matrices. */
  readonly byteLength: number;
  /** Loads it on a server; returns the names that the server then has. */
  load(server: UploadTarget, name: string, call: CallOptions): Promise<string[]>;
}

/** The server that an adapter is loaded on. */
export interface UploadTarget {
  /** Calls to it. */
  readonly client: SGLangClient;
  /** Its tensor-parallel ranks. */
  readonly ranks: number;
}

/** By value: the matrices travel in the request, as they were when they were read. */
export function uploadTensors(
  adapter: ReadAdapter,
  matrices: Matrices,
  maxBytes: number = DEFAULT_PAYLOAD_BYTES,
): AdapterUpload {
  const { config, tensors, ...about } = describe(adapter, matrices);
  requireFits(about.byteLength, maxBytes);
  const payload = toBase64(flattenedByValue(tensors));
  return {
    via: "tensors",
    ...about,
    load: ({ client, ranks }, name, call) =>
      client.loadLoraFromTensors({ name, config, payload, ranks }, call),
  };
}

/**
 * To servers of this machine by a folder that is there while they read it, which
 * takes a twentieth of the time of a request; to others, and to those that do not see it, by value.
 *
 * @param unseeing Addresses of servers that did not see such a folder; kept up to date.
 */
export function uploadBest(
  adapter: ReadAdapter,
  matrices: Matrices,
  unseeing: Set<string>,
  maxBytes: number = DEFAULT_PAYLOAD_BYTES,
): AdapterUpload {
  const { config, tensors, ...about } = describe(adapter, matrices);
  const handover = new Handover(
    config,
    tensors.map(({ bytes, ...info }) => ({ ...info, data: bytes })),
  );
  let byValue: AdapterUpload | undefined;
  return {
    ...about,
    get via() {
      return byValue === undefined ? "path" : "tensors";
    },
    async load(target, name, call) {
      const { url } = target.client;
      const isNear = isLoopback(hostOf(url)) && !unseeing.has(url) &&
        await handover.isPossible();
      let isRefused = false;
      if (isNear) {
        try {
          return await handover.whileThere((path) => target.client.loadLora({ name, path }, call));
        } catch (error) {
          // It looks elsewhere, in a container, or runs as another user. Else it says no again.
          if (!(error instanceof HttpError) || error.status !== 400) throw error;
          isRefused = true;
        }
      }
      byValue ??= uploadTensors(adapter, matrices, maxBytes);
      const loaded = await byValue.load(target, name, call);
      if (isRefused) unseeing.add(url);
      return loaded;
    },
  };
}

function describe(adapter: ReadAdapter, matrices: Matrices) {
  const { rank, alpha } = adapter.settings;
  const tensors = tensorsOf(matrices);
  const targets = targetsOf(matrices);
  const config = {
    peft_type: "LORA",
    r: rank,
    lora_alpha: alpha,
    lora_dropout: 0,
    bias: "none",
    target_modules: targets,
    task_type: "CAUSAL_LM",
  };
  const byteLength = tensors.reduce((total, { bytes }) => total + bytes.byteLength, 0);
  return { config, tensors, rank, targets, byteLength };
}

function requireFits(byteLength: number, max: number): void {
  if (byteLength <= max) return;
  throw new LimitError(
    `The adapter has ${byteLength} bytes, and at most maxPayloadBytes, ${max}, travel in a request. ` +
      'Save it as a folder that the servers see, and use via: "path"',
    { limit: "maxPayloadBytes", max },
  );
}

/**
 * By path: the server reads the folder itself, also when it joins later. The files must stay as they
 * are; they are looked at before and after.
 */
export async function uploadPath(
  adapter: ReadAdapter,
  matrices: Matrices,
  serverFolder: string | undefined,
): Promise<AdapterUpload> {
  const { folder, settings, label } = adapter;
  if (folder === undefined || matrices.size !== adapter.matrices.size) {
    throw new UnsupportedError(
      `${label} cannot be loaded by path, because a server would read something else from it: it is ` +
        'no folder, has use_rslora, names a server does not know, or lacks a module of a group. Use via: "tensors"',
    );
  }
  const seen = await fingerprint(folder);
  const confirm = async () => {
    if (await fingerprint(folder) === seen) return;
    throw new CheckpointError(
      `${folder} was written to after it was given as an adapter: give every version a folder of its own`,
    );
  };
  return {
    via: "path",
    rank: settings.rank,
    targets: targetsOf(matrices),
    byteLength: adapter.byteLength,
    async load({ client }, name, call) {
      await confirm();
      const loaded = await client.loadLora({ name, path: serverFolder ?? folder }, call);
      await confirm();
      return loaded;
    },
  };
}

async function fingerprint(folder: string): Promise<string> {
  const stamps = await Promise.all(
    [CONFIG_FILE, TENSOR_FILE].map((file) => stampOf(`${folder}/${file}`)),
  );
  return stamps.join();
}
