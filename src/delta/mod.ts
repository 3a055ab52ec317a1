/**
 * Versions of a checkpoint as what changed, for servers on other hosts: a publisher beside the
 * trainer, a follower beside each server.
 *
 * @module
 */
export { Follower, type FollowerOptions, type FollowReport } from "./follower.ts";
export { DELTA_SCHEMA, type DeltaFile, type DeltaManifest } from "./manifest.ts";
export { publishDelta, type PublishOptions, type PublishReport } from "./publish.ts";
export type { DeltaLimits } from "./limits.ts";
export { DeltaStore, type DeltaStoreOptions } from "./store.ts";
