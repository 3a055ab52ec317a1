/**
 * A gloo group without Python: rank 0, which broadcasts, and the other ranks, which receive.
 *
 * @module
 */
export { GlooGroup } from "./group.ts";
export { GlooPeer, type JoinGlooOptions } from "./peer.ts";
