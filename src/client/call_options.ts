import { checkOptionNames, type OptionNames } from "../internal/option_names.ts";
import type { CallOptions, ParseFunctionCallOptions, SeparateReasoningOptions } from "./types.ts";
import type { WeightsGroupOptions, WeightUpdateOptions } from "./weight_control.ts";

/** Options that some calls have besides those of all. */
interface OwnOptions {
  readonly addSpecialTokens: unknown;
  readonly skipSpecialTokens: unknown;
  readonly waitMs: unknown;
  readonly selector: unknown;
  readonly truncateSize: unknown;
  readonly tags: unknown;
  readonly wasReleasedElsewhere: unknown;
}

/**
 * The names of the options of all calls of a client. One table for all: a slip of the pen is in none of
 * them, and a call asks for it where it is sent.
 */
const NAMES = {
  signal: true,
  timeoutMs: true,
  addSpecialTokens: true,
  skipSpecialTokens: true,
  waitMs: true,
  selector: true,
  truncateSize: true,
  tags: true,
  wasReleasedElsewhere: true,
  tools: true,
  toolCallParser: true,
  reasoningParser: true,
  masterAddress: true,
  masterPort: true,
  rankOffset: true,
  worldSize: true,
  groupName: true,
  backend: true,
  weightVersion: true,
  loadFormat: true,
  abortAllRequests: true,
  emptyDeviceCache: true,
} as const satisfies
  & OptionNames<CallOptions>
  & OptionNames<ParseFunctionCallOptions>
  & OptionNames<SeparateReasoningOptions>
  & OptionNames<WeightsGroupOptions>
  & OptionNames<WeightUpdateOptions>
  & OptionNames<OwnOptions>;

/**
 * Refuses options that no call has.
 *
 * @throws {ValidationError} A name is unknown.
 */
export function checkCallOptions(options: object): void {
  checkOptionNames(options, NAMES, "a call");
}
