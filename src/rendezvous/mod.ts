/**
 * torch's TCPStore protocol: the server that rank 0 of a `torch.distributed` group runs, and a
 * client for the other ranks.
 *
 * @module
 */
export { type StoreCallOptions, TCPStoreClient, type TCPStoreClientOptions } from "./client.ts";
export { defaultStoreLimits, type StoreLimits } from "./limits.ts";
export {
  type PeersSeen,
  TCPStoreServer,
  type TCPStoreServerOptions,
  type WaitForKeysOptions,
} from "./server.ts";
