/**
 * LoRA adapters as policies: each sync of a trainer becomes a version with a name of its own, on every
 * server, while generation goes on.
 *
 * @module
 */
export type { AdapterInput, AdapterTensors } from "./adapter.ts";
export { type AdapterSyncReport, FleetAdapters } from "./fleet_adapters.ts";
export { type AdapterName, AdapterNames, parseAdapterName } from "./names.ts";
export type { PeftConfig } from "./peft_config.ts";
export {
  type AdapterEngine,
  LoraSender,
  type LoraSyncOptions,
  LoraSyncScheme,
  type UpdateAdapterOptions,
} from "./scheme.ts";
export type { AdapterServerFacts } from "./server_facts.ts";
export type { AdapterUpload, AdapterVia, UploadTarget } from "./upload.ts";
export type { LoadedAdapter } from "./versions.ts";
export type { AdapterWorker, BringOptions, FleetAdaptersOptions } from "./fleet_options.ts";
