/**
 * Weights from a running trainer without a file between, and rows to it: a link that trainers in
 * other processes connect to, by `sglang_rl.WeightLink` in Python or by the protocol of
 * `docs/trainer_protocol.md`.
 *
 * @module
 */
export { type ConnectedTrainer, TrainerLink } from "./link.ts";
export { type TrainerBroadcastOptions, trainerBroadcasts } from "./broadcast.ts";
export { type AdapterOutcome, type AdapterReceiver, syncAdapter, syncPush } from "./sync.ts";
export { type PushResult, TrainerPush } from "./push.ts";
export type { MemoryMapper } from "./device_maps.ts";
export type { PushedAdapter } from "./push_offer.ts";
export type { TrainerWay } from "./greeting.ts";
export type { TrainerCuda, TrainerLinkOptions } from "./link_options.ts";
