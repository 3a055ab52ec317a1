/**
 * A small SGLang-compatible server in TypeScript, and tiny checkpoints for it: everything to try
 * and to test a reinforcement-learning loop with no GPU, no Python and no download.
 *
 * It is a **test double**: it behaves as the real server was measured to behave, at the endpoints
 * that this library uses, but it is not SGLang.
 *
 * @module
 */
export { EmbeddedServer, type EmbeddedServerOptions, type EmbeddedServerStats } from "./server.ts";
export type { Faults, Misload } from "./faults.ts";
export type { EmbeddedLoraOptions } from "./adapters/store.ts";
export type { EmulatedVersion } from "./emulated.ts";
export {
  makeTinyCheckpoint,
  type TinyCheckpointOptions,
  type TinyDType,
} from "./tiny/make_tiny_checkpoint.ts";
export type { Logger } from "../internal/logger.ts";
