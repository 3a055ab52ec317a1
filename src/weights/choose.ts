import { UnsupportedError } from "../errors.ts";
import { CollectiveDelivery } from "./delivery/collective.ts";
import { CudaIpcDelivery } from "./delivery/cuda_ipc.ts";
import type { Delivery } from "./delivery/delivery.ts";
import { DiskDelivery } from "./delivery/disk.ts";
import { openNcclGroup } from "./delivery/nccl.ts";
import { GlooGroup } from "./gloo/group.ts";
import type { ResolvedOptions, TransportName } from "./options.ts";
import type { FleetServer } from "./server.ts";
import type { OpenGroup } from "./transport.ts";

/** A transport and why it was picked. */
export interface TransportChoice {
  /** The transport. */
  readonly transport: TransportName;
  /** Why, in words. */
  readonly reason: string;
}

/**
 * Picks a transport by where the servers run: `gloo` for servers on a CPU, `nccl` for servers on a
 * GPU.
 */
export function chooseTransport(
  servers: readonly FleetServer[],
  options: Pick<ResolvedOptions, "transport">,
): TransportChoice {
  const { transport } = options;
  if (transport !== "auto") return { transport, reason: "the options ask for it" };
  const onCpu = servers.filter(({ isCpu }) => isCpu);
  if (onCpu.length === servers.length) {
    return { transport: "gloo", reason: "the servers compute on a CPU" };
  }
  if (onCpu.length > 0) {
    throw new UnsupportedError(
      `Some servers compute on a CPU (${onCpu.map(({ url }) => url).join(", ")}) and some on a ` +
        'GPU: no process group holds both. Sync them apart, or use transport "disk"',
    );
  }
  // Not chosen unasked: whether the devices can map each other's memory shows only in trying.
  const hint = servers.every(({ url }) => isLoopback(url))
    ? '; they run on this host, where "cuda-ipc" is faster'
    : "";
  return { transport: "nccl", reason: `the servers compute on GPUs${hint}` };
}

function isLoopback(url: string): boolean {
  return /^(127\.|localhost$|\[::1\]$)/.test(new URL(url).hostname);
}

/** Makes the delivery of a choice. */
export function makeDelivery(choice: TransportChoice, options: ResolvedOptions): Delivery {
  const { transport } = choice;
  if (transport === "disk") return new DiskDelivery(options);
  if (transport === "cuda-ipc") return new CudaIpcDelivery(options);
  const openGroup = options.openGroup ?? openerOf(transport, options);
  return new CollectiveDelivery(transport, openGroup, options);
}

function openerOf(transport: "nccl" | "gloo", options: ResolvedOptions): OpenGroup {
  return transport === "gloo"
    ? (group, call) => GlooGroup.open(group, call)
    : (group, call) => openNcclGroup(group, call, options);
}
