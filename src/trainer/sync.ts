import { ValidationError } from "../errors.ts";
import type { SGLangWeightSender, UpdateWeightsOptions, WeightSyncReport } from "../weights/mod.ts";
import type { WeightSource } from "../weights/source/mod.ts";
import type { TrainerPush } from "./push.ts";

/** Brings the weights of a push to the servers of `sender`, and tells the trainer how that went. */
export async function syncPush(
  push: TrainerPush,
  sender: Pick<SGLangWeightSender, "updateWeights">,
  options: Omit<UpdateWeightsOptions, "version"> = {},
): Promise<WeightSyncReport> {
  const { onProgress, ...rest } = options;
  try {
    if (push.kind === "adapter") {
      throw new ValidationError(
        `The trainer pushed the adapter "${push.adapter?.name}", and a sender takes whole weights: ` +
          "take it from nextPush() and give it to syncAdapter(), or give serve() the adapters' sender",
      );
    }
    const report = await sender.updateWeights(push.source, {
      ...rest,
      version: push.version,
      onProgress(progress) {
        push.onProgress(progress);
        onProgress?.(progress);
      },
    });
    await push.done(report);
    return report;
  } catch (error) {
    await push.failed(error);
    throw error;
  }
}

/** What became of an adapter. */
export interface AdapterOutcome {
  /** What the servers call it: `policy@17`. */
  readonly name: string;
  /** Bytes of its matrices. */
  readonly byteLength: number;
  /** Milliseconds that it took. */
  readonly durationMs: number;
}

/** What brings adapters to servers, such as a `LoraSender` of `./adapters`. */
export interface AdapterReceiver<Report extends AdapterOutcome> {
  /** Loads an adapter on every server. */
  updateAdapter(
    adapter: {
      readonly config: { readonly r: number; readonly lora_alpha: number };
      readonly tensors: WeightSource;
    },
    options: { readonly name?: string | undefined; readonly signal?: AbortSignal | undefined },
  ): Promise<Report>;
}

/**
 * Brings the adapter of a push to the servers of `adapters`, under its name (`policy`, or just
 * `policy@17`), and tells the trainer how that went.
 *
 * @throws {ValidationError} The push holds whole weights.
 * @throws {AdapterSyncError} A server refused it or could not be reached; the trainer has the same words.
 */
export async function syncAdapter<Report extends AdapterOutcome>(
  push: TrainerPush,
  adapters: AdapterReceiver<Report>,
  options: { readonly signal?: AbortSignal | undefined } = {},
): Promise<Report> {
  try {
    if (push.adapter === undefined) {
      throw new ValidationError("The trainer pushed whole weights: give them to syncPush()");
    }
    const { name, config } = push.adapter;
    const adapter = {
      // Whoever loads it looks at every field.
      config: config as Readonly<Record<string, unknown>> & { r: number; lora_alpha: number },
      tensors: push.source,
    };
    const report = await adapters.updateAdapter(adapter, { name, ...options });
    const { name: version, byteLength: sizeBytes, durationMs } = report;
    await push.done({ version, durationMs, sizeBytes });
    return report;
  } catch (error) {
    await push.failed(error);
    throw error;
  }
}
