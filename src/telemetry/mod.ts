/**
 * What a run does, for those who watch it: OpenTelemetry's traces and metrics, and Prometheus's text.
 *
 * @module
 */
export { enableTelemetry } from "./open_telemetry.ts";
export type { Counts } from "./counts.ts";
export { Monitor, type MonitorEvent, type MonitorOptions } from "./monitor.ts";
export type { CurvePoint } from "./curve.ts";
export type { ServerLook } from "./server_look.ts";
export type {
  WatchedCall,
  WatchedCollector,
  WatchedEngine,
  WatchedEvent,
  WatchedSender,
  WatchedServer,
  WatchedSync,
} from "./watched.ts";
export { type Family, type Labels, PROMETHEUS_TYPE, prometheusText } from "./prometheus.ts";
export type { Histogram } from "./histogram.ts";
