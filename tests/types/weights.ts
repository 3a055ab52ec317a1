/** A sync has the servers in one way, and the options of its own transport. */
import { SGLangWeightSyncScheme } from "../../mod.ts";
import type { OpenTransport } from "../../src/weights/transport/mod.ts";
import type { WeightEngine } from "../../src/weights/mod.ts";

declare const engine: WeightEngine;
declare const ownTransport: OpenTransport;
const serverUrl = "http://127.0.0.1:30000";

export const servers = [
  () => new SGLangWeightSyncScheme({ serverUrl }),
  () => new SGLangWeightSyncScheme({ engine }),
  () => new SGLangWeightSyncScheme({ workers: [serverUrl, { url: serverUrl, tpSize: 2 }] }),
  // @ts-expect-error No server is given.
  () => new SGLangWeightSyncScheme({}),
  // @ts-expect-error Two ways are given.
  () => new SGLangWeightSyncScheme({ serverUrl, engine }),
  // @ts-expect-error Two ways are given.
  () => new SGLangWeightSyncScheme({ engine, workers: [serverUrl] }),
  // @ts-expect-error There is no such option.
  () => new SGLangWeightSyncScheme({ serverUrl, pausemode: "abort" }),
];

export const transports = [
  () => new SGLangWeightSyncScheme({ serverUrl, transport: "cuda-ipc", serversSeeDevice: true }),
  // @ts-expect-error Nobody says that the servers see the device.
  () => new SGLangWeightSyncScheme({ serverUrl, transport: "cuda-ipc" }),
  // @ts-expect-error The servers do not see it.
  () => new SGLangWeightSyncScheme({ serverUrl, transport: "cuda-ipc", serversSeeDevice: false }),
  () => new SGLangWeightSyncScheme({ serverUrl, transport: "disk", disk: { folder: "/w" } }),
  () => new SGLangWeightSyncScheme({ serverUrl, transport: "disk" }),
  // @ts-expect-error A folder is for the disk.
  () => new SGLangWeightSyncScheme({ serverUrl, transport: "gloo", disk: { folder: "/w" } }),
  // @ts-expect-error Files need no group.
  () => new SGLangWeightSyncScheme({ serverUrl, transport: "disk", isolation: "fleet" }),
  () => new SGLangWeightSyncScheme({ serverUrl, transport: "nccl", keeper: true }),
  // @ts-expect-error A keeper is for NCCL.
  () => new SGLangWeightSyncScheme({ serverUrl, transport: "gloo", keeper: true }),
  () => new SGLangWeightSyncScheme({ serverUrl, transport: "auto", disk: { folder: "/w" } }),
  () => new SGLangWeightSyncScheme({ serverUrl, transport: ownTransport, isolation: "fleet" }),
  // @ts-expect-error There is no such transport.
  () => new SGLangWeightSyncScheme({ serverUrl, transport: "rdma" }),
];
