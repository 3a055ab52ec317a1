import { ProtocolError, UnsupportedError } from "../errors.ts";
import type { Logger } from "../internal/logger.ts";
import { samplingIn } from "./request.ts";
import { GRAMMARS } from "./sampling_params.ts";

/**
 * What an event of a stream holds. `cumulative`: everything so far (the default of every version).
 * `incremental`: what is new (`--incremental-streaming-output`, from 0.5.10). `ids_incremental`: ids
 * that are new and text so far (`--stream-output` of 0.5.9).
 */
export type StreamMode = "cumulative" | "incremental" | "ids_incremental";

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
  /** Generation can be paused in the modes `retract` and `in_place` too (seen from 0.5.10). */
  readonly hasPauseModes: boolean;
  /** `/ready` exists (from 0.5.20). */
  readonly hasReady: boolean;
  /** Answers tell the version of each run of tokens (from 0.5.20). */
  readonly hasWeightVersionSpans: boolean;
  /** Prompt ids can be returned (from 0.5.13). */
  readonly hasPromptIds: boolean;
  /** `sessionId` is known (from 0.5.15). */
  readonly hasSessionId: boolean;
  /**
   * `tokenIdsLogProb` can be asked for (from 0.5.22). Earlier servers end when any other request, a
   * health check too, runs in the same batch: `srt/layers/logprob_processor.py` gives it a plain
   * list where `process_batch_result_decode` expects a tensor (seen on 0.5.16).
   */
  readonly hasTokenIdsLogProb: boolean;
  /**
   * Grammars can be asked for. A server on a CPU ends from the first one before 0.5.23 (seen on 0.5.16):
   * `srt/constrained/xgrammar_backend.py`, `apply_vocab_mask`, and the same in llguidance's.
   */
  readonly survivesGrammars: boolean;
  /** Beam search is known (from 0.5.22). */
  readonly hasBeams: boolean;
  /** `routedDpRank` is known (from 0.5.10). */
  readonly hasRoutedDpRank: boolean;
  /** Weights can be checksummed by default (from 0.5.13). */
  readonly hasWeightChecksum: boolean;
  /**
   * How `/load_lora_adapter_from_tensors` takes the matrices: one payload for all ranks (up to
   * 0.5.16), or one for each (from 0.5.18); 0.5.17 was not looked at, and takes what it knows of both.
   */
  readonly loraPayload: "one" | "both" | "each_rank";
  /** `samplingSeed` counts: the server has `--enable-deterministic-inference`. */
  readonly honoursSeeds: boolean;
  /**
   * The server says that it has `--enable-deterministic-inference` (`--rl-on-policy-target` turns it
   * on too): the same prompt and seed give the same tokens, and requests without a seed get seed 42,
   * each of `n` samples too (`srt/sampling/sampling_batch_info.py`), so they are all alike.
   */
  readonly deterministic: boolean;
  /** What the events of a stream hold. */
  readonly streamMode: StreamMode;
}

/** The SGLang versions that this library is tested with, oldest first. */
export const testedVersions = ["0.5.16", "0.5.23"] as const;

/** What to tell of a version that is newer than all that were tested; `undefined` for others. */
export function untestedWarning(version: string): string | undefined {
  const newest = testedVersions.at(-1)!;
  const [minor, patch] = newest.split(".").slice(1).map(Number) as [number, number];
  if (!isAtLeast(version, [0, minor, patch + 1])) return undefined;
  return `SGLang ${version} is newer than ${newest}, the newest that this library is tested with. ` +
    `It is used as ${newest} is; if something looks wrong, try that version`;
}

const warned = new WeakMap<Logger, Set<string>>();

/** Warns of an untested version, once for each logger: all servers of a fleet have the same. */
export function warnOfUntested(version: string, logger: Logger): void {
  const known = warned.get(logger) ?? new Set();
  const warning = known.has(version) ? undefined : untestedWarning(version);
  if (warning === undefined) return;
  warned.set(logger, known.add(version));
  logger.warn(warning);
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
    hasPauseModes: isFrom(5, 10),
    hasReady: isFrom(5, 20),
    hasWeightVersionSpans: isFrom(5, 20),
    hasPromptIds: isFrom(5, 13),
    hasSessionId: isFrom(5, 15),
    hasTokenIdsLogProb: isFrom(5, 22),
    survivesGrammars: isFrom(5, 23) || info.device !== "cpu" || info.grammar_backend === "none",
    hasBeams: isFrom(5, 22),
    hasRoutedDpRank: isFrom(5, 10),
    hasWeightChecksum: isFrom(5, 13),
    loraPayload: isFrom(5, 18) ? "each_rank" : isFrom(5, 17) ? "both" : "one",
    honoursSeeds: info.enable_deterministic_inference !== false,
    deterministic: isDeterministic(info),
    streamMode: streamModeOf(info),
  };
}

/** Whether `/server_info` tells of `--enable-deterministic-inference`. */
export function isDeterministic(info: Readonly<Record<string, unknown>>): boolean {
  return info.enable_deterministic_inference === true;
}

const GRAMMARS_ON_CPU = [
  "survivesGrammars",
  "a GPU or 0.5.23: on a CPU it would end this server",
] as const;

/** Fields that some servers ignore without a word, fail on or end from, and what they need. */
const DEMANDING_FIELDS = {
  return_prompt_token_ids: ["hasPromptIds", "0.5.13 or newer"],
  session_id: ["hasSessionId", "0.5.15 or newer"],
  routed_dp_rank: ["hasRoutedDpRank", "0.5.10 or newer"],
  beam_width: ["hasBeams", "0.5.22 or newer"],
  token_ids_logprob: ["hasTokenIdsLogProb", "0.5.22 or newer"],
  ...Object.fromEntries(GRAMMARS.map((name) => [name, GRAMMARS_ON_CPU])) as Readonly<
    Record<(typeof GRAMMARS)[number], typeof GRAMMARS_ON_CPU>
  >,
  sampling_seed: [
    "honoursSeeds",
    "--enable-deterministic-inference; without it the server ignores the seed",
  ],
} as const;

/** The fields of a request that not every server honours. */
export function demandingFields(body: Readonly<Record<string, unknown>>): DemandingField[] {
  const sampling = samplingIn(body);
  const names = Object.keys(DEMANDING_FIELDS) as DemandingField[];
  return names.filter((name) => name in body || name in sampling);
}

/** A field that not every server honours. */
export type DemandingField = keyof typeof DEMANDING_FIELDS;

/** Throws when one of the fields is not for this server. */
export function checkDemandingFields(
  fields: readonly DemandingField[],
  server: Capabilities,
): void {
  for (const field of fields) {
    const [capability, need] = DEMANDING_FIELDS[field];
    if (server[capability]) continue;
    throw new UnsupportedError(
      `The server runs SGLang ${server.version}, and ${field} needs ${need}`,
    );
  }
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
