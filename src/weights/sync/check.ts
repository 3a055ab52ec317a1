import { tensorSizeBytes } from "../../checkpoint/dtype.ts";
import { withDeadline } from "../../internal/deadline.ts";
import type { FleetServer } from "../fleet/server.ts";
import type { ResolvedOptions } from "../resolved_options.ts";
import type { WeightSource } from "../source/source.ts";
import { stepFailed } from "./failure.ts";
import type { Part } from "./part.ts";
import { checkForAll, type ModelMetadata, referencesOf } from "./names.ts";

/** What `checkWeights()` of a sender found. */
export interface WeightCheck {
  /** The transport that would be used. */
  readonly transport: string;
  /** Tensors that would be sent. */
  readonly tensors: number;
  /** Their bytes. */
  readonly sizeBytes: number;
  /** Names that would stay behind: tied, or not declared. */
  readonly notSent: readonly string[];
}

/** Compares a source with the servers' models, as a sync does before it sends. */
export async function checkSource(
  { source, declared, part, options, servers, signal }: {
    readonly source: WeightSource;
    readonly declared: ModelMetadata | undefined;
    readonly part: Part | undefined;
    readonly options: ResolvedOptions;
    readonly servers: readonly FleetServer[];
    readonly signal: AbortSignal;
  },
): Promise<Omit<WeightCheck, "transport">> {
  const { sourceMs: timeoutMs } = options.deadlines;
  try {
    await using opened = await withDeadline(
      { phase: "open the source", timeoutMs, peer: source.label, signal },
      (inner) => source.open({ signal: inner }),
    );
    const references = await referencesOf({ declared, options, signal }, opened, servers);
    part?.requireSameBase(servers);
    const { send, tied, extra } = checkForAll(opened.tensors, references, part);
    return {
      tensors: send.length,
      sizeBytes: send.reduce((sum, tensor) => sum + tensorSizeBytes(tensor), 0),
      notSent: [...tied, ...extra],
    };
  } catch (error) {
    throw stepFailed("check the names", error, "check");
  }
}
