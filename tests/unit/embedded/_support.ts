/** A tiny checkpoint for the tests of one file, and calls of an embedded server. */
import { join } from "node:path";
import {
  EmbeddedServer,
  type EmbeddedServerOptions,
  makeTinyCheckpoint,
  type TinyCheckpointOptions,
} from "../../../src/embedded/mod.ts";

let root: string | undefined;

/** Folder of a tiny checkpoint; made once for each kind, gone after the file's tests. */
export async function tinyCheckpoint(options: TinyCheckpointOptions = {}): Promise<string> {
  root ??= await Deno.makeTempDir({ prefix: "sglang-rl-tiny-" });
  const folder = join(root, JSON.stringify(options).replaceAll(/[^a-z0-9]/g, "-"));
  const isThere = await Deno.stat(folder).then(() => true, () => false);
  if (!isThere) await makeTinyCheckpoint(folder, options);
  return folder;
}

Deno.test.afterAll(async () => {
  if (root !== undefined) await Deno.remove(root, { recursive: true });
  root = undefined;
});

/** An embedded server on the tiny checkpoint of seed 0. */
export async function startTiny(
  options: Partial<EmbeddedServerOptions> = {},
): Promise<EmbeddedServer> {
  return await EmbeddedServer.start({ model: await tinyCheckpoint(), seed: 1, ...options });
}

/** An answer: status and parsed body; plain text where it is not JSON. */
export interface Answer<T> {
  readonly status: number;
  readonly body: T;
}

/** A sample as the wire has it. */
export interface Sample {
  readonly text: string;
  readonly output_ids: number[];
  readonly prompt_token_ids?: number[];
  readonly index?: number;
  readonly meta_info: {
    readonly id: string;
    readonly finish_reason: { type: string; matched?: number | string; message?: string } | null;
    readonly prompt_tokens: number;
    readonly completion_tokens: number;
    readonly cached_tokens: number;
    readonly weight_version: string;
    readonly weight_versions?: { version: string; start: number; end: number }[];
    readonly num_retractions: number;
    readonly input_token_logprobs: [number | null, number, string | null][];
    readonly output_token_logprobs: [number, number, string | null][];
    readonly output_top_logprobs: [number, number, string | null][][];
    readonly output_token_ids_logprobs: [number, number, string | null][][];
  };
}

/** POSTs JSON. */
export async function post<T = Sample>(
  server: { url: string },
  path: string,
  body: unknown,
): Promise<Answer<T>> {
  const response = await fetch(server.url + path, { method: "POST", body: JSON.stringify(body) });
  return { status: response.status, body: parsed<T>(await response.text()) };
}

/** GETs. */
export async function get<T = Record<string, unknown>>(
  server: { url: string },
  path: string,
): Promise<Answer<T>> {
  const response = await fetch(server.url + path);
  return { status: response.status, body: parsed<T>(await response.text()) };
}

/** Greedy ids after a prompt. */
export async function greedy(
  server: { url: string },
  inputIds: readonly number[] = [1, 2, 3],
  maxNewTokens = 12,
): Promise<number[]> {
  const { body } = await post(server, "/generate", {
    input_ids: inputIds,
    sampling_params: { max_new_tokens: maxNewTokens, temperature: 0, ignore_eos: true },
  });
  return body.output_ids;
}

/** Events of a streamed answer; the last is `"[DONE]"`. */
export async function events(
  server: { url: string },
  body: Record<string, unknown>,
): Promise<(Sample | "[DONE]")[]> {
  const response = await fetch(`${server.url}/generate`, {
    method: "POST",
    body: JSON.stringify({ ...body, stream: true }),
  });
  const text = await response.text();
  return text.trimEnd().split("\n\n").map((event) => {
    const data = event.replace(/^data: /, "");
    return data === "[DONE]" ? data : JSON.parse(data);
  });
}

function parsed<T>(text: string): T {
  try {
    return JSON.parse(text);
  } catch {
    return text as T;
  }
}
