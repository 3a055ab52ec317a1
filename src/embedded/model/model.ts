/** The forward pass of Qwen2 and Llama over a batch of sequences of any lengths. */
import type { AdaptedModule, LoraMatrices } from "../adapters/adapter.ts";
import type { ModelConfig } from "./config.ts";
import { addInto, addLora, linear, rmsNorm, RotaryTable, swiGlu } from "./kernels.ts";
import { KvCache } from "./kv_cache.ts";
import { type LayerWeights, type Linear, ModelWeights } from "./weights.ts";

/** New tokens of one sequence. */
export interface Chunk {
  /** The sequence's cache; its length is the position of the first token. */
  readonly cache: KvCache;
  /** The tokens, at least one. */
  readonly tokens: ArrayLike<number>;
  /** Index of the first of `tokens` whose logits are wanted. */
  readonly logitsFrom: number;
  /** What is added to the model's own matrices. */
  readonly adapter?: LoraMatrices | undefined;
}

/** A model and its scratch memory. */
export class Model {
  readonly config: ModelConfig;
  readonly weights: ModelWeights;
  readonly #rotary: RotaryTable;
  readonly #scratch = new Map<string, Float32Array>();

  constructor(config: ModelConfig) {
    this.config = config;
    this.weights = new ModelWeights(config);
    this.#rotary = new RotaryTable(config.headDim, config.ropeTheta);
  }

  /** An empty cache for a new sequence. */
  newCache(): KvCache {
    return new KvCache(this.config.layers, this.config.kvHeads * this.config.headDim);
  }

  /**
   * Runs all chunks as one batch and extends their caches. The result holds one row of
   * `vocabSize` logits for each token asked for, chunk by chunk; it is valid until the next call.
   */
  forward(chunks: readonly Chunk[]): Float32Array {
    const { hiddenSize, vocabSize } = this.config;
    const rows = chunks.reduce((total, chunk) => total + chunk.tokens.length, 0);
    const hidden = this.#embed(chunks, rows);
    this.weights.layers.forEach((layer, index) =>
      this.#layer(hidden, { chunks, rows, layer, index })
    );
    for (const chunk of chunks) chunk.cache.length += chunk.tokens.length;

    const { wanted, count } = this.#wantedRows(hidden, chunks);
    const normed = this.#buffer("normed", count * hiddenSize);
    const norm = { rows: count, size: hiddenSize, eps: this.config.rmsNormEps };
    rmsNorm(normed, wanted, this.weights.norm, norm);
    const logits = this.#buffer("logits", count * vocabSize);
    this.#linear(logits, normed, this.weights.head, {
      rows: count,
      inputs: hiddenSize,
      outputs: vocabSize,
    });
    return logits;
  }

  #embed(chunks: readonly Chunk[], rows: number): Float32Array {
    const { hiddenSize } = this.config;
    const hidden = this.#buffer("hidden", rows * hiddenSize);
    let at = 0;
    for (const { tokens, cache } of chunks) {
      cache.reserve(cache.length + tokens.length);
      for (let t = 0; t < tokens.length; t++, at += hiddenSize) {
        const from = tokens[t]! * hiddenSize;
        hidden.set(this.weights.embedding.subarray(from, from + hiddenSize), at);
      }
    }
    return hidden;
  }

  #layer(
    hidden: Float32Array,
    step: { chunks: readonly Chunk[]; rows: number; layer: LayerWeights; index: number },
  ): void {
    const { chunks, rows, layer, index } = step;
    const { hiddenSize, intermediateSize, rmsNormEps } = this.config;
    const queryWidth = this.config.heads * this.config.headDim;
    const keyWidth = this.config.kvHeads * this.config.headDim;
    const normed = this.#buffer("normed", rows * hiddenSize);
    const norm = { rows, size: hiddenSize, eps: rmsNormEps };

    rmsNorm(normed, hidden, layer.inputNorm, norm);
    const query = this.#buffer("query", rows * queryWidth);
    const key = this.#buffer("key", rows * keyWidth);
    const value = this.#buffer("value", rows * keyWidth);
    this.#linear(query, normed, layer.query, { rows, inputs: hiddenSize, outputs: queryWidth });
    this.#linear(key, normed, layer.key, { rows, inputs: hiddenSize, outputs: keyWidth });
    this.#linear(value, normed, layer.value, { rows, inputs: hiddenSize, outputs: keyWidth });
    const adapt = (y: Float32Array, x: Float32Array, module: AdaptedModule) =>
      this.#adapt(y, x, { chunks, index, module });
    adapt(query, normed, "q_proj");
    adapt(key, normed, "k_proj");
    adapt(value, normed, "v_proj");
    const mixed = this.#buffer("mixed", rows * queryWidth);
    this.#attend(mixed, { chunks, query, key, value, index });
    const output = this.#buffer("output", rows * hiddenSize);
    this.#linear(output, mixed, layer.output, { rows, inputs: queryWidth, outputs: hiddenSize });
    adapt(output, mixed, "o_proj");
    addInto(hidden, output, rows * hiddenSize);

    rmsNorm(normed, hidden, layer.postNorm, norm);
    const gate = this.#buffer("gate", rows * intermediateSize);
    const up = this.#buffer("up", rows * intermediateSize);
    this.#linear(gate, normed, layer.gate, { rows, inputs: hiddenSize, outputs: intermediateSize });
    this.#linear(up, normed, layer.up, { rows, inputs: hiddenSize, outputs: intermediateSize });
    adapt(gate, normed, "gate_proj");
    adapt(up, normed, "up_proj");
    swiGlu(gate, up, rows * intermediateSize);
    this.#linear(output, gate, layer.down, { rows, inputs: intermediateSize, outputs: hiddenSize });
    adapt(output, gate, "down_proj");
    addInto(hidden, output, rows * hiddenSize);
  }

  /** Adds to the rows of each chunk what its adapter makes of them. */
  #adapt(
    y: Float32Array,
    x: Float32Array,
    step: { chunks: readonly Chunk[]; index: number; module: AdaptedModule },
  ): void {
    let row = 0;
    for (const { adapter, tokens } of step.chunks) {
      const pair = adapter?.layers[step.index]?.get(step.module);
      if (adapter !== undefined && pair !== undefined) {
        addLora(y, x, pair, { from: row, rows: tokens.length, ...adapter });
      }
      row += tokens.length;
    }
  }

  #attend(
    mixed: Float32Array,
    step: {
      chunks: readonly Chunk[];
      query: Float32Array;
      key: Float32Array;
      value: Float32Array;
      index: number;
    },
  ): void {
    const { heads, kvHeads, headDim } = this.config;
    const keyWidth = kvHeads * headDim;
    let row = 0;
    for (const { cache, tokens } of step.chunks) {
      const keys = cache.keys[step.index]!;
      const values = cache.values[step.index]!;
      for (let t = 0; t < tokens.length; t++, row++) {
        const position = cache.length + t;
        const from = row * keyWidth;
        this.#rotary.rotate(step.query, row * heads * headDim, { heads, position });
        this.#rotary.rotate(step.key, from, { heads: kvHeads, position });
        keys.set(step.key.subarray(from, from + keyWidth), position * keyWidth);
        values.set(step.value.subarray(from, from + keyWidth), position * keyWidth);
        this.#attendRow(mixed, { query: step.query, row, keys, values, length: position + 1 });
      }
    }
  }

  #attendRow(
    mixed: Float32Array,
    step: {
      query: Float32Array;
      row: number;
      keys: Float32Array;
      values: Float32Array;
      length: number;
    },
  ): void {
    const { query, row, keys, values, length } = step;
    const { heads, kvHeads, headDim } = this.config;
    const keyWidth = kvHeads * headDim;
    const group = heads / kvHeads;
    const scale = 1 / Math.sqrt(headDim);
    const scores = this.#buffer("scores", length);
    for (let head = 0; head < heads; head++) {
      const at = (row * heads + head) * headDim;
      const offset = Math.floor(head / group) * headDim;
      let largest = -Infinity;
      for (let p = 0, k = offset; p < length; p++, k += keyWidth) {
        let dot = 0;
        for (let i = 0; i < headDim; i++) dot += query[at + i]! * keys[k + i]!;
        const score = dot * scale;
        scores[p] = score;
        if (score > largest) largest = score;
      }
      let total = 0;
      for (let p = 0; p < length; p++) {
        const weight = Math.exp(scores[p]! - largest);
        scores[p] = weight;
        total += weight;
      }
      mixed.fill(0, at, at + headDim);
      for (let p = 0, v = offset; p < length; p++, v += keyWidth) {
        const weight = scores[p]! / total;
        for (let i = 0; i < headDim; i++) mixed[at + i]! += weight * values[v + i]!;
      }
    }
  }

  #wantedRows(
    hidden: Float32Array,
    chunks: readonly Chunk[],
  ): { wanted: Float32Array; count: number } {
    const { hiddenSize } = this.config;
    let row = 0;
    let count = 0;
    // Rows move to the front of the same buffer; a row never overtakes one that is still needed.
    for (const { tokens, logitsFrom } of chunks) {
      for (let t = logitsFrom; t < tokens.length; t++, count++) {
        const from = (row + t) * hiddenSize;
        hidden.copyWithin(count * hiddenSize, from, from + hiddenSize);
      }
      row += tokens.length;
    }
    return { wanted: hidden, count };
  }

  #linear(
    y: Float32Array,
    x: Float32Array,
    layer: Linear,
    size: { rows: number; inputs: number; outputs: number },
  ): void {
    const { matrices } = this.weights;
    if (matrices?.takes(layer, size.inputs)) matrices.linear(y, x, layer, size);
    else linear(y, x, layer, size);
  }

  #buffer(name: string, length: number): Float32Array {
    const buffer = this.#scratch.get(name);
    if (buffer !== undefined && buffer.length >= length) return buffer;
    const grown = new Float32Array(Math.max(length, 2 * (buffer?.length ?? 0)));
    this.#scratch.set(name, grown);
    return grown;
  }
}
