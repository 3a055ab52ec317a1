/** `cudaIpcMemHandle_t`, 64 bytes, travels by value: 8 words of 8 bytes. */
export const ipcHandleStruct = {
  struct: ["u64", "u64", "u64", "u64", "u64", "u64", "u64", "u64"],
} as const satisfies Deno.NativeStructType;

/** Functions of the CUDA runtime, versions 12 and 13 (`cuda_runtime_api.h`). */
export const cudartSymbols = {
  cudaGetDeviceCount: {
    parameters: [
      "buffer", // int *count
    ],
    result: "i32",
  },
  cudaSetDevice: {
    parameters: [
      "i32", // int device
    ],
    result: "i32",
  },
  cudaDeviceSynchronize: { parameters: [], result: "i32" },
  cudaRuntimeGetVersion: {
    parameters: [
      "buffer", // int *runtimeVersion
    ],
    result: "i32",
  },
  cudaDriverGetVersion: {
    parameters: [
      "buffer", // int *driverVersion
    ],
    result: "i32",
  },
  cudaDeviceGetAttribute: {
    parameters: [
      "buffer", // int *value
      "i32", // enum cudaDeviceAttr attr
      "i32", // int device
    ],
    result: "i32",
  },
  cudaMemGetInfo: {
    parameters: [
      "buffer", // size_t *free
      "buffer", // size_t *total
    ],
    result: "i32",
  },
  cudaMalloc: {
    parameters: [
      "buffer", // void **devPtr
      "usize", // size_t size
    ],
    result: "i32",
  },
  cudaFree: {
    parameters: [
      "usize", // void *devPtr
    ],
    result: "i32",
  },
  cudaMallocHost: {
    parameters: [
      "buffer", // void **ptr
      "usize", // size_t size
    ],
    result: "i32",
  },
  cudaFreeHost: {
    parameters: [
      "usize", // void *ptr
    ],
    result: "i32",
  },
  cudaHostRegister: {
    parameters: [
      "usize", // void *ptr
      "usize", // size_t size
      "u32", // unsigned int flags
    ],
    result: "i32",
  },
  cudaHostUnregister: {
    parameters: [
      "usize", // void *ptr
    ],
    result: "i32",
  },
  cudaMemcpy: {
    parameters: [
      "usize", // void *dst
      "usize", // const void *src
      "usize", // size_t count
      "i32", // enum cudaMemcpyKind kind
    ],
    result: "i32",
  },
  cudaMemcpyAsync: {
    parameters: [
      "usize", // void *dst
      "usize", // const void *src
      "usize", // size_t count
      "i32", // enum cudaMemcpyKind kind
      "usize", // cudaStream_t stream
    ],
    result: "i32",
  },
  cudaMemsetAsync: {
    parameters: [
      "usize", // void *devPtr
      "i32", // int value
      "usize", // size_t count
      "usize", // cudaStream_t stream
    ],
    result: "i32",
  },
  cudaStreamCreateWithFlags: {
    parameters: [
      "buffer", // cudaStream_t *pStream
      "u32", // unsigned int flags
    ],
    result: "i32",
  },
  cudaStreamDestroy: {
    parameters: [
      "usize", // cudaStream_t stream
    ],
    result: "i32",
  },
  cudaStreamSynchronize: {
    parameters: [
      "usize", // cudaStream_t stream
    ],
    result: "i32",
  },
  cudaStreamQuery: {
    parameters: [
      "usize", // cudaStream_t stream
    ],
    result: "i32",
  },
  cudaStreamWaitEvent: {
    parameters: [
      "usize", // cudaStream_t stream
      "usize", // cudaEvent_t event
      "u32", // unsigned int flags
    ],
    result: "i32",
  },
  cudaEventCreateWithFlags: {
    parameters: [
      "buffer", // cudaEvent_t *event
      "u32", // unsigned int flags
    ],
    result: "i32",
  },
  cudaEventDestroy: {
    parameters: [
      "usize", // cudaEvent_t event
    ],
    result: "i32",
  },
  cudaEventRecord: {
    parameters: [
      "usize", // cudaEvent_t event
      "usize", // cudaStream_t stream
    ],
    result: "i32",
  },
  cudaEventQuery: {
    parameters: [
      "usize", // cudaEvent_t event
    ],
    result: "i32",
  },
  cudaEventElapsedTime: {
    parameters: [
      "buffer", // float *ms
      "usize", // cudaEvent_t start
      "usize", // cudaEvent_t end
    ],
    result: "i32",
  },
  cudaIpcGetMemHandle: {
    parameters: [
      "buffer", // cudaIpcMemHandle_t *handle
      "usize", // void *devPtr
    ],
    result: "i32",
  },
  cudaIpcOpenMemHandle: {
    parameters: [
      "buffer", // void **devPtr
      ipcHandleStruct, // cudaIpcMemHandle_t handle
      "u32", // unsigned int flags
    ],
    result: "i32",
  },
  cudaIpcCloseMemHandle: {
    parameters: [
      "usize", // void *devPtr
    ],
    result: "i32",
  },
  cudaGetErrorName: {
    parameters: [
      "i32", // cudaError_t error
    ],
    result: "usize",
  },
  cudaGetErrorString: {
    parameters: [
      "i32", // cudaError_t error
    ],
    result: "usize",
  },
} as const satisfies Deno.ForeignLibraryInterface;
