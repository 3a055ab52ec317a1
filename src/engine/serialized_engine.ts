import type { EngineOptions } from "./options.ts";

/** What {@linkcode AsyncSGLang.toJSON} gives: addresses and settings, no keys, no processes. */
export interface SerializedEngine {
  /** Always `"AsyncSGLang"`. */
  readonly kind: "AsyncSGLang";
  /** Address of the router, or `null`. */
  readonly router: string | null;
  /** Addresses of the servers. */
  readonly workers: readonly string[];
  /** Settings that are no secrets. */
  readonly options: Pick<
    EngineOptions,
    | "timeoutMs"
    | "generateTimeoutMs"
    | "controlTimeoutMs"
    | "retry"
    | "vocabSize"
    | "samplingDefaults"
    | "maxConcurrency"
    | "modelFolder"
  >;
}

/** The settings of an engine that may be written down. */
export function withoutKeys(options: EngineOptions): SerializedEngine["options"] {
  const { timeoutMs, generateTimeoutMs, controlTimeoutMs, retry } = options;
  const { vocabSize, samplingDefaults, maxConcurrency, modelFolder } = options;
  return {
    timeoutMs,
    generateTimeoutMs,
    controlTimeoutMs,
    retry,
    vocabSize,
    samplingDefaults,
    maxConcurrency,
    modelFolder,
  };
}
