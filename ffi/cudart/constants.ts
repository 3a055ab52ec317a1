/** `enum cudaMemcpyKind`. */
export const CopyKind = {
  hostToHost: 0,
  hostToDevice: 1,
  deviceToHost: 2,
  deviceToDevice: 3,
  /** The runtime tells from the addresses. */
  infer: 4,
} as const;

/** Which way a copy goes. */
export type CopyKind = (typeof CopyKind)[keyof typeof CopyKind];

/** The results of the CUDA runtime that the code branches on (`enum cudaError`). */
export const CudaResult = {
  success: 0,
  memoryAllocation: 2,
  insufficientDriver: 35,
  noDevice: 100,
  invalidDevice: 101,
  notReady: 600,
} as const;

/** `cudaStreamNonBlocking`: does not wait for the default stream. */
export const STREAM_NON_BLOCKING = 1;

/** `cudaEventDisableTiming`: cheaper to record and to wait for. */
export const EVENT_DISABLE_TIMING = 2;

/** `cudaHostRegisterPortable`: pinned for every device. */
export const HOST_REGISTER_PORTABLE = 1;

/** Size of `cudaIpcMemHandle_t` in bytes. */
export const IPC_HANDLE_BYTES = 64;

/** `cudaIpcMemLazyEnablePeerAccess`, the only flag that there is. */
export const IPC_LAZY_PEER_ACCESS = 1;
