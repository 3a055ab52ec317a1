/**
 * The SGLang router: one address in front of several servers.
 *
 * @module
 */
export type { RouterApiOptions, RouterCallOptions } from "./api.ts";
export type { RouterPolicy, SGLangRouterOptions } from "./options.ts";
export { SGLangRouter } from "./router.ts";
export type { RouterWorker } from "./worker.ts";
export type { FlagValue, LaunchProgress, ProcessExit } from "../process/mod.ts";
