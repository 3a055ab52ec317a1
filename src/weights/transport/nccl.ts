import type { CollectiveGroup, OpenGroupOptions, TransportCall } from "../../collective/group.ts";
import type { Keeper } from "../../../ffi/mod.ts";
import { PermissionError } from "../../errors.ts";
import { TCPStoreServer } from "../../rendezvous/server.ts";
import type { ResolvedOptions } from "../resolved_options.ts";
import type { GroupWay } from "./collective.ts";

type Native = typeof import("../../../ffi/mod.ts");
type NativeOptions = Pick<
  ResolvedOptions,
  "device" | "nccl" | "logger" | "deadlines" | "keeper"
>;

/** Opens the device, and the keeper in which rank 0 of every group lives where there can be one. */
export async function openNcclWay(
  options: NativeOptions,
  signal: AbortSignal | undefined,
): Promise<GroupWay> {
  const native = await loadNative();
  await using stack = new AsyncDisposableStack();
  const keeper = stack.use(await startKeeper(native, options, signal));
  const device = stack.use(
    await native.DeviceStage.open({
      device: options.device,
      libraries: options.nccl,
      keeper,
      timeoutMs: options.deadlines.updateMs,
      logger: options.logger,
      signal,
    }),
  );
  const open = stack.move();
  return {
    device,
    reserve: (byteLength) => device.reserve(byteLength),
    openGroup: (group, call) => openNcclGroup(group, call, { ...options, native, keeper }),
    get failure() {
      return keeper?.ended ?? device.ended;
    },
    setWill: keeper &&
      ((server, calls) =>
        keeper.setWill({ url: server.url, headers: server.controlHeaders, calls })),
    [Symbol.asyncDispose]: () => open.disposeAsync(),
  };
}

/** The keeper; `undefined` where Deno may not run itself and nobody insists. */
async function startKeeper(
  native: Native,
  { keeper, logger, deadlines }: NativeOptions,
  signal: AbortSignal | undefined,
): Promise<Keeper | undefined> {
  if (keeper === false) return undefined;
  try {
    return await native.Keeper.start({ timeoutMs: deadlines.initMs, signal, logger });
  } catch (error) {
    if (keeper === true || !(error instanceof PermissionError)) throw error;
    logger.warn(
      `Rank 0 has no keeper: if this process is killed within an update, servers joined over ` +
        `NVLink or P2P stay in it for good. Run with ${error.flag}, or give keeper: false`,
    );
    return undefined;
  }
}

/** Opens an NCCL group with a store of its own. */
async function openNcclGroup(
  group: OpenGroupOptions,
  call: TransportCall,
  options: Omit<NativeOptions, "keeper"> & {
    readonly native: Native;
    readonly keeper: Keeper | undefined;
  },
): Promise<CollectiveGroup> {
  const { NcclGroup } = options.native;
  const { masterAddress, masterPort, bindAddress, groupName, worldSize } = group;
  const store = TCPStoreServer.listen({
    hostname: bindAddress ?? masterAddress,
    port: masterPort,
  });
  const settings = {
    store,
    closesToo: store,
    worldSize,
    groupName,
    masterAddress,
    device: options.device,
    libraries: options.nccl,
    timeoutMs: options.deadlines.updateMs,
    signal: call.signal,
    logger: options.logger,
  };
  try {
    return options.keeper === undefined
      ? await NcclGroup.open(settings)
      : await NcclGroup.openIn(options.keeper, settings);
  } catch (error) {
    await store[Symbol.asyncDispose]();
    throw error;
  }
}

/**
 * The native code, loaded here and nowhere else, so that nobody needs `--allow-ffi` who does not use
 * it.
 */
export function loadNative(): Promise<typeof import("../../../ffi/mod.ts")> {
  return import("../../../ffi/mod.ts");
}
