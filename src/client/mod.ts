/**
 * One SGLang server over HTTP.
 *
 * @module
 */
export type * from "./types.ts";
