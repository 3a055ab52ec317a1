import type { BatchShape } from "../batch_shape.ts";
import type { ChatHistory } from "../chat_history.ts";
import type { LogProbs } from "../log_probs.ts";
import type { Masks } from "../masks.ts";
import type { Text } from "../text.ts";
import type { Tokens } from "../tokens.ts";
import type { InputMode, LLMWrapperOptions } from "./options.ts";
import type { SampleInfo } from "./outputs.ts";

/** Options of a wrapper that decide what its outputs have, beside its mode. */
export type OutputOptions = Pick<
  LLMWrapperOptions,
  "returnLogProbs" | "historyKey" | "textKey" | "tokensKey" | "masksKey" | "logProbsKey"
>;

/** A wrapper's options with nothing that the options of {@linkcode OutputOptions} say otherwise. */
export type DefaultOutput = Readonly<Record<never, never>>;

/** Stands for the options of a wrapper whose keys are not known. */
export type UnknownKeys = {
  readonly [Key in Exclude<keyof OutputOptions, "returnLogProbs">]: never;
};

/** Refuses what is no option, where options are inferred. */
export type OnlyOptions<Given> = {
  readonly [Name in Exclude<keyof Given, keyof LLMWrapperOptions>]: never;
};

/** The key of a part of the output: the given one; the default where none was, or run time only knows. */
export type OutputKey<Given, Option extends string, Default extends string> = Given extends
  { readonly [Name in Option]: infer Key extends string } ? string extends Key ? Default : Key
  : Default;

/** A part of the output that some modes have: present in these, absent in others, else one looks. */
export type OutputInModes<
  Mode extends InputMode,
  Having extends InputMode,
  Key extends string,
  Value,
> = [Mode] extends [Having] ? { readonly [Name in Key]: Value }
  : [Mode] extends [Exclude<InputMode, Having>] ? { readonly [Name in Key]?: undefined }
  : { readonly [Name in Key]?: Value | undefined };

/** The log-probabilities of the output: present unless `returnLogProbs` is false. */
export type OutputLogProbs<Given, Key extends string> = Given extends
  { readonly returnLogProbs?: infer Is }
  ? "returnLogProbs" extends keyof Given
    ? [Is] extends [false] ? { readonly [Name in Key]?: undefined }
    : false extends Is ? { readonly [Name in Key]?: LogProbs | undefined }
    : { readonly [Name in Key]: LogProbs }
  : { readonly [Name in Key]: LogProbs }
  : { readonly [Name in Key]: LogProbs };

/**
 * What a wrapper returns; `docs/policy.md` has the shapes. Texts are there unless tokens are read,
 * conversations where conversations are read, log-probabilities unless `returnLogProbs: false`. Keys
 * that the options name are the output's keys.
 *
 * @typeParam Mode What the wrapper reads: its `inputMode`.
 * @typeParam Given Options of the wrapper, of which those of {@linkcode OutputOptions} count.
 */
export type PolicyOutput<Mode extends InputMode = InputMode, Given = DefaultOutput> =
  & {
    /** Shape of the batch; with `numSamples` the samples are its last dimension. */
    readonly batchShape: BatchShape;
    /** Finish reason, versions and the engine's answer of each sample, as a flat list. */
    readonly samples: readonly SampleInfo[];
    /** Weight version at the end of each sample, as a flat list; `null` where not told. */
    readonly weightVersion: readonly (string | null)[];
  }
  & { readonly [Name in OutputKey<Given, "tokensKey", "tokens">]: Tokens }
  & { readonly [Name in OutputKey<Given, "masksKey", "masks">]: Masks }
  & OutputInModes<Mode, "history" | "text", OutputKey<Given, "textKey", "text">, Text>
  & OutputInModes<Mode, "history", OutputKey<Given, "historyKey", "history">, ChatHistory>
  & OutputLogProbs<Given, OutputKey<Given, "logProbsKey", "logProbs">>;
