/**
 * Supervision of a fleet of servers: who is dead is taken out and started again, and serves only
 * once it holds the fleet's weights.
 *
 * @module
 */
export {
  type ControlledServer,
  FleetControl,
  type FleetControlOptions,
  type SyncedFleet,
} from "./control.ts";
export type { FleetEvent } from "./events.ts";
export { defaultRules, type FleetRules } from "./machine.ts";
export type {
  FleetSupervisorOptions,
  FleetWorker,
  StartableRouter,
  StartableServer,
  SupervisedFleet,
} from "./options.ts";
export type { SupervisedServer } from "./supervised.ts";
export { FleetSupervisor } from "./supervisor.ts";
export {
  inputMeanings,
  type ServerAction,
  type ServerGuard,
  type ServerInput,
  type ServerState,
  stateMeanings,
  type Transition,
  transitions,
} from "./transitions.ts";
export type { PollingOptions, ServerDiscovery } from "./discovery/discovery.ts";
export { type DnsOptions, type DnsResolver, serversInDns } from "./discovery/dns.ts";
export { listedServers, type ServersFileOptions, serversInFile } from "./discovery/file.ts";
export {
  type KubernetesOptions,
  refittedCondition,
  refittedGate,
  serversInKubernetes,
} from "./discovery/kubernetes.ts";
export type { KubernetesAccess, KubernetesLimits } from "./discovery/kubernetes_calls.ts";
export { serversInSlurm, type SlurmOptions } from "./discovery/slurm.ts";
