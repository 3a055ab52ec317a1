import { ProtocolError } from "../errors.ts";
import { fromBase64 } from "../internal/text_of_bytes.ts";

/**
 * Which experts of a mixture each token went to, as the server chose them: what a trainer needs to
 * choose the same. The last sampled token is not among them: nothing was computed from it.
 */
export interface RoutedExperts {
  /** Position of the first token, counted from the prompt's first. */
  readonly start: number;
  /** Number of tokens `(T)`. */
  readonly tokens: number;
  /** Ids for each token: layers of the model times experts for each token. */
  readonly perToken: number;
  /** Expert ids `(T, layers, top-k)`, end to end. */
  readonly data: Int32Array;
}

/** What is known of the answer that the experts are of. */
export interface RoutedExpertsContext {
  /** First position that was asked for. */
  readonly start: number;
  /** Tokens of the prompt, when the server tells. */
  readonly promptTokens: number | null;
  /** Sampled ids. */
  readonly outputTokens: number;
  /** Whether the request was aborted, after which the server may have less. */
  readonly isAborted: boolean;
  /** Address of the server. */
  readonly server: string;
}

/** Reads `meta_info.routed_experts`: base64 of int32, little-endian. */
export function toRoutedExperts(
  value: unknown,
  { start, promptTokens, outputTokens, isAborted, server }: RoutedExpertsContext,
): RoutedExperts | null {
  if (typeof value !== "string") {
    if (isAborted) return null;
    throw new ProtocolError(
      `${server} returned no routed experts: start it with --enable-return-routed-experts, and serve ` +
        "a model that has experts",
    );
  }
  const bytes = bytesOf(value, server);
  const data = new Int32Array(bytes.byteLength >> 2);
  const view = new DataView(bytes.buffer);
  for (let i = 0; i < data.length; i++) data[i] = view.getInt32(4 * i, true);
  const tokens = Math.max(0, (promptTokens ?? 0) + outputTokens - 1 - start);
  const perToken = tokens === 0 ? 0 : data.length / tokens;
  if (Number.isInteger(perToken) && (tokens > 0 || data.length === 0)) {
    return { start, tokens, perToken, data };
  }
  if (isAborted) return null;
  throw new ProtocolError(
    `${server} returned ${data.length} routed experts for ${tokens} tokens, which is no whole ` +
      "number for each",
  );
}

/** The experts of two parts of one sample; those of the part that came first count. */
export function joinRoutedExperts(
  first: RoutedExperts | null | undefined,
  second: RoutedExperts | null | undefined,
): RoutedExperts | null {
  if (first == null || second == null) return null;
  if (first.tokens === 0) return second.start <= first.start ? second : null;
  const end = first.start + first.tokens;
  const skipped = end - second.start;
  const isWhole = skipped >= 0 && skipped <= second.tokens &&
    (second.tokens === 0 || second.perToken === first.perToken);
  if (!isWhole) return null;
  const rest = second.data.subarray(skipped * second.perToken);
  const data = new Int32Array(first.data.length + rest.length);
  data.set(first.data);
  data.set(rest, first.data.length);
  return { ...first, tokens: first.tokens + second.tokens - skipped, data };
}

/** The experts of a sample whose last ids are dropped. */
export function cutRoutedExperts(
  experts: RoutedExperts | null | undefined,
  droppedTokens: number,
): RoutedExperts | null {
  if (experts == null) return null;
  const tokens = Math.max(0, experts.tokens - droppedTokens);
  return { ...experts, tokens, data: experts.data.slice(0, tokens * experts.perToken) };
}

function bytesOf(text: string, server: string): Uint8Array<ArrayBuffer> {
  try {
    const bytes = fromBase64(text);
    if (bytes.byteLength % 4 === 0) return bytes;
  } catch {
    // Told below.
  }
  throw new ProtocolError(`${server} returned routed experts that are no base64 of int32`);
}
