/** HTTP calls to a real SGLang server, and checkpoints for it. */
import type { DType, TensorInfo } from "../../../src/checkpoint/dtype.ts";

/** A server's answer. */
export interface Answer {
  readonly status: number;
  readonly body: Record<string, unknown>;
  readonly tookMs: number;
}

/** A real SGLang server. */
export class Server {
  readonly url: string;

  constructor(url: string) {
    this.url = url;
  }

  /** Posts JSON; never sent twice, because the body is a stream. */
  async post(path: string, body: unknown = {}, timeoutMs = 60_000): Promise<Answer> {
    const start = performance.now();
    const response = await fetch(this.url + path, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: new Blob([JSON.stringify(body)]).stream(),
      signal: AbortSignal.timeout(timeoutMs),
    });
    const text = await response.text();
    const tookMs = Math.round(performance.now() - start);
    const parsed = text.startsWith("{") ? JSON.parse(text) : { text };
    return { status: response.status, body: parsed, tookMs };
  }

  /** Posts and insists on a 200. */
  async must(path: string, body: unknown = {}): Promise<Answer> {
    const answer = await this.post(path, body);
    if (answer.status === 200) return answer;
    throw new Error(`${path} answered ${answer.status}: ${JSON.stringify(answer.body)}`);
  }

  /** Waits until the server answers. */
  async ready(timeoutMs: number): Promise<void> {
    const end = performance.now() + timeoutMs;
    for (;;) {
      const ok = await fetch(`${this.url}/health`).then(
        async (response) => (await response.body?.cancel(), response.ok),
        () => false,
      );
      if (ok) return;
      if (performance.now() > end) throw new Error(`${this.url} was not ready in ${timeoutMs} ms`);
      await new Promise((resolve) => setTimeout(resolve, 500));
    }
  }

  /** Checksum of the weights, which also waits for the server's GPU. */
  async checksum(): Promise<string> {
    const { body } = await this.must("/weights_checker", { action: "checksum" });
    return JSON.stringify(body.per_engine_checksum);
  }

  /** Greedy tokens of a fixed prompt. */
  async tokens(): Promise<number[]> {
    const { body } = await this.must("/generate", {
      input_ids: [5, 100, 200, 300, 400, 17, 33],
      sampling_params: { temperature: 0, max_new_tokens: 16, ignore_eos: true },
    });
    return body.output_ids as number[];
  }
}

/** A tensor of a checkpoint file and where it lies in the data. */
export interface FileTensor extends TensorInfo {
  readonly offset: number;
  readonly byteLength: number;
}

const dtypes: Record<string, DType> = { BF16: "bfloat16", F16: "float16", F32: "float32" };

/** The tensors of a safetensors file in the order of their bytes, and where the bytes begin. */
export async function readHeader(
  path: string,
): Promise<{ tensors: FileTensor[]; dataOffset: number; byteLength: number }> {
  using file = await Deno.open(path);
  const size = new Uint8Array(8);
  await file.read(size);
  const headerLength = Number(new DataView(size.buffer).getBigUint64(0, true));
  const header = new Uint8Array(headerLength);
  await file.read(header);
  const entries = JSON.parse(new TextDecoder().decode(header)) as Record<
    string,
    { dtype: string; shape: number[]; data_offsets: [number, number] }
  >;
  const tensors = Object.entries(entries).filter(([name]) => name !== "__metadata__").map(
    ([name, { dtype, shape, data_offsets: [from, to] }]) => ({
      name,
      dtype: dtypes[dtype]!,
      shape,
      offset: from,
      byteLength: to - from,
    }),
  ).toSorted((a, b) => a.offset - b.offset);
  const last = tensors.at(-1)!;
  return { tensors, dataOffset: 8 + headerLength, byteLength: last.offset + last.byteLength };
}

/** Reads a file's bytes from `offset` on into `target`. */
export async function readInto(path: string, offset: number, target: Uint8Array): Promise<void> {
  using file = await Deno.open(path);
  await file.seek(offset, Deno.SeekMode.Start);
  for (let done = 0; done < target.byteLength;) {
    const read = await file.read(target.subarray(done));
    if (read === null) throw new Error(`${path} is too short`);
    done += read;
  }
}

/** What a server is told of tensors that come over a group. */
export function updateBody(
  tensors: readonly TensorInfo[],
  groupName: string,
  more: Record<string, unknown> = {},
): Record<string, unknown> {
  return {
    names: tensors.map(({ name }) => name),
    dtypes: tensors.map(({ dtype }) => dtype),
    shapes: tensors.map(({ shape }) => shape),
    group_name: groupName,
    ...more,
  };
}
