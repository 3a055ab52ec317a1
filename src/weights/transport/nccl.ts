import type {
  BroadcastPart,
  CollectiveGroup,
  DevicePart,
  GatheredPart,
  OpenGroupOptions,
  StagePart,
  TransportCall,
} from "../../collective/group.ts";
import { TCPStoreServer } from "../../rendezvous/server.ts";
import type { ResolvedOptions } from "../options.ts";

/** Opens an NCCL group with a store of its own. */
export async function openNcclGroup(
  group: OpenGroupOptions,
  call: TransportCall,
  options: Pick<ResolvedOptions, "device" | "nccl" | "logger" | "deadlines">,
): Promise<CollectiveGroup> {
  const { NcclGroup } = await loadNative();
  const { masterAddress, masterPort, bindAddress, groupName, worldSize } = group;
  const store = TCPStoreServer.listen({
    hostname: bindAddress ?? masterAddress,
    port: masterPort,
  });
  try {
    const opened = await NcclGroup.open({
      store,
      worldSize,
      groupName,
      masterAddress,
      device: options.device,
      libraries: options.nccl,
      timeoutMs: options.deadlines.updateMs,
      signal: call.signal,
      logger: options.logger,
    });
    return new GroupWithStore(opened, store);
  } catch (error) {
    await store[Symbol.asyncDispose]();
    throw error;
  }
}

type DeviceGroup = CollectiveGroup & Required<Pick<CollectiveGroup, DeviceCalls>>;
type DeviceCalls = "stagingBuffer" | "stage" | "broadcastDevice";

/** A group that closes its store after itself. */
class GroupWithStore implements CollectiveGroup {
  readonly backend = "nccl";
  readonly masterAddress: string;
  readonly masterPort: number;
  readonly groupName: string;
  readonly worldSize: number;
  readonly #group: DeviceGroup;
  readonly #store: TCPStoreServer;

  constructor(group: DeviceGroup, store: TCPStoreServer) {
    this.#group = group;
    this.#store = store;
    this.masterAddress = group.masterAddress;
    this.masterPort = group.masterPort;
    this.groupName = group.groupName;
    this.worldSize = group.worldSize;
  }

  get failure(): Error | undefined {
    return this.#group.failure;
  }

  get heard(): string | undefined {
    return this.#group.heard;
  }

  connect(call: TransportCall): Promise<void> {
    return this.#group.connect(call);
  }

  stagingBuffer(byteLength: number): Uint8Array {
    return this.#group.stagingBuffer(byteLength);
  }

  stage(
    parts: readonly (StagePart | GatheredPart)[],
    call: TransportCall,
  ): Promise<DevicePart[]> {
    return this.#group.stage(parts, call);
  }

  broadcastDevice(parts: readonly DevicePart[], call: TransportCall): Promise<void> {
    return this.#group.broadcastDevice(parts, call);
  }

  broadcast(parts: readonly BroadcastPart[], call: TransportCall): Promise<void> {
    return this.#group.broadcast(parts, call);
  }

  async abort(reason: Error): Promise<void> {
    await this.#group.abort(reason);
    await this.#store[Symbol.asyncDispose]();
  }

  async close(): Promise<void> {
    await this.#group.close();
    await this.#store[Symbol.asyncDispose]();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

/**
 * The native code, loaded here and nowhere else, so that nobody needs `--allow-ffi` who does not use
 * it.
 */
export function loadNative(): Promise<typeof import("../../../ffi/mod.ts")> {
  return import("../../../ffi/mod.ts");
}
