import { UnsupportedError } from "../../errors.ts";
import { firstOnDevice } from "../source/source.ts";
import type { SyncRun } from "./delivery.ts";

/** Refuses weights in memory of a GPU for a transport that reads them in this process. */
export function refuseDeviceMemory(run: Pick<SyncRun, "open">, transport: string): void {
  const tensor = firstOnDevice(run.open);
  if (tensor === undefined) return;
  throw new UnsupportedError(
    `Weight "${tensor.name}" lies in device memory, which ${transport} cannot send. Use transport ` +
      `"nccl" or "cuda-ipc", or copy the weights to this process's memory`,
  );
}

/** Refuses float8 tensors that would travel alone, which gloo has no type for. */
export function refuseFloat8(run: Pick<SyncRun, "open">): void {
  const float8 = run.open.tensors.find(({ dtype }) => dtype.startsWith("float8"));
  if (float8 === undefined) return;
  throw new UnsupportedError(
    `gloo cannot broadcast "${float8.name}" (${float8.dtype}) alone: leave flattened on, which ` +
      "sends bytes",
  );
}
