import { ProtocolError } from "../errors.ts";
import type { StreamMode } from "./stream.ts";

/** What a server can do, by its version and settings. */
export interface Capabilities {
  /** SGLang version, for example `0.5.16`. */
  readonly version: string;
  /** Weight updates run between `/begin_weight_update` and `/end_weight_update` (from 0.5.22). */
  readonly hasWeightSession: boolean;
  /**
   * `flush_cache: true` in a weight update ends a server that is not idle (up to 0.5.20). This
   * library never sends it.
   */
  readonly diesOnBusyFlush: boolean;
  /** `/flush_cache` takes a timeout (from 0.5.10). */
  readonly hasFlushTimeout: boolean;
  /** `/ready` exists (from 0.5.20). */
  readonly hasReady: boolean;
  /** Answers tell the version of each run of tokens (from 0.5.20). */
  readonly hasWeightVersionSpans: boolean;
  /** Prompt ids can be returned (from 0.5.13). */
  readonly hasPromptIds: boolean;
  /** `sessionId` is known (from 0.5.15). */
  readonly hasSessionId: boolean;
  /** Beam search is known (from 0.5.22). */
  readonly hasBeams: boolean;
  /** `routedDpRank` is known (from 0.5.10). */
  readonly hasRoutedDpRank: boolean;
  /** Weights can be checksummed by default (from 0.5.13). */
  readonly hasWeightChecksum: boolean;
  /** What the events of a stream hold. */
  readonly streamMode: StreamMode;
}

/** Reads the capabilities from the version and settings of `/server_info`. */
export function capabilitiesOf(info: Readonly<Record<string, unknown>>): Capabilities {
  const version = String(info.version);
  const isFrom = (minor: number, patch: number) => isAtLeast(version, [0, minor, patch]);
  return {
    version,
    hasWeightSession: isFrom(5, 22),
    diesOnBusyFlush: !isFrom(5, 22),
    hasFlushTimeout: isFrom(5, 10),
    hasReady: isFrom(5, 20),
    hasWeightVersionSpans: isFrom(5, 20),
    hasPromptIds: isFrom(5, 13),
    hasSessionId: isFrom(5, 15),
    hasBeams: isFrom(5, 22),
    hasRoutedDpRank: isFrom(5, 10),
    hasWeightChecksum: isFrom(5, 13),
    streamMode: streamModeOf(info),
  };
}

function streamModeOf(info: Readonly<Record<string, unknown>>): StreamMode {
  if (info.incremental_streaming_output === true) return "incremental";
  return info.stream_output === true ? "ids_incremental" : "cumulative";
}

/** Compares `0.5.10.post1`, `0.5.23.dev1+gabc` and the like by their first three numbers. */
function isAtLeast(version: string, least: readonly number[]): boolean {
  const match = /^v?(\d+)\.(\d+)(?:\.(\d+))?/.exec(version);
  if (match === null) throw new ProtocolError(`The server's version "${version}" cannot be read`);
  const numbers = [match[1], match[2], match[3] ?? "0"].map(Number);
  for (const [i, wanted] of least.entries()) {
    if (numbers[i] !== wanted) return numbers[i]! > wanted;
  }
  return true;
}
