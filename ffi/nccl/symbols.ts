/** `ncclUniqueId`, 128 bytes, travels by value: 16 words of 8 bytes. */
export const uniqueIdStruct = {
  struct: [
    ...["u64", "u64", "u64", "u64", "u64", "u64", "u64", "u64"] as const,
    ...["u64", "u64", "u64", "u64", "u64", "u64", "u64", "u64"] as const,
  ],
} as const satisfies Deno.NativeStructType;

/** Functions of NCCL 2.19 and later (`nccl.h`); newer ones are optional. */
export const ncclSymbols = {
  ncclGetVersion: {
    parameters: [
      "buffer", // int *version
    ],
    result: "i32",
  },
  ncclGetUniqueId: {
    parameters: [
      "buffer", // ncclUniqueId *uniqueId
    ],
    result: "i32",
  },
  ncclCommInitRankConfig: {
    parameters: [
      "buffer", // ncclComm_t *comm
      "i32", // int nranks
      uniqueIdStruct, // ncclUniqueId commId
      "i32", // int rank
      "buffer", // ncclConfig_t *config
    ],
    result: "i32",
  },
  ncclCommFinalize: {
    parameters: [
      "usize", // ncclComm_t comm
    ],
    result: "i32",
  },
  ncclCommDestroy: {
    parameters: [
      "usize", // ncclComm_t comm
    ],
    result: "i32",
  },
  ncclCommAbort: {
    parameters: [
      "usize", // ncclComm_t comm
    ],
    result: "i32",
  },
  ncclCommGetAsyncError: {
    parameters: [
      "usize", // ncclComm_t comm
      "buffer", // ncclResult_t *asyncError
    ],
    result: "i32",
  },
  ncclCommCount: {
    parameters: [
      "usize", // ncclComm_t comm
      "buffer", // int *count
    ],
    result: "i32",
  },
  ncclCommUserRank: {
    parameters: [
      "usize", // ncclComm_t comm
      "buffer", // int *rank
    ],
    result: "i32",
  },
  ncclCommCuDevice: {
    parameters: [
      "usize", // ncclComm_t comm
      "buffer", // int *device
    ],
    result: "i32",
  },
  ncclBroadcast: {
    parameters: [
      "usize", // const void *sendbuff
      "usize", // void *recvbuff
      "usize", // size_t count
      "i32", // ncclDataType_t datatype
      "i32", // int root
      "usize", // ncclComm_t comm
      "usize", // cudaStream_t stream
    ],
    result: "i32",
  },
  ncclAllReduce: {
    parameters: [
      "usize", // const void *sendbuff
      "usize", // void *recvbuff
      "usize", // size_t count
      "i32", // ncclDataType_t datatype
      "i32", // ncclRedOp_t op
      "usize", // ncclComm_t comm
      "usize", // cudaStream_t stream
    ],
    result: "i32",
  },
  ncclSend: {
    parameters: [
      "usize", // const void *sendbuff
      "usize", // size_t count
      "i32", // ncclDataType_t datatype
      "i32", // int peer
      "usize", // ncclComm_t comm
      "usize", // cudaStream_t stream
    ],
    result: "i32",
  },
  ncclRecv: {
    parameters: [
      "usize", // void *recvbuff
      "usize", // size_t count
      "i32", // ncclDataType_t datatype
      "i32", // int peer
      "usize", // ncclComm_t comm
      "usize", // cudaStream_t stream
    ],
    result: "i32",
  },
  ncclGroupStart: { parameters: [], result: "i32" },
  ncclGroupEnd: { parameters: [], result: "i32" },
  ncclMemAlloc: {
    parameters: [
      "buffer", // void **ptr
      "usize", // size_t size
    ],
    result: "i32",
    optional: true,
  },
  ncclMemFree: {
    parameters: [
      "usize", // void *ptr
    ],
    result: "i32",
    optional: true,
  },
  ncclCommRegister: {
    parameters: [
      "usize", // ncclComm_t comm
      "usize", // void *buff
      "usize", // size_t size
      "buffer", // void **handle
    ],
    result: "i32",
    optional: true,
  },
  ncclCommDeregister: {
    parameters: [
      "usize", // ncclComm_t comm
      "usize", // void *handle
    ],
    result: "i32",
    optional: true,
  },
  ncclGetErrorString: {
    parameters: [
      "i32", // ncclResult_t result
    ],
    result: "usize",
  },
  ncclGetLastError: {
    parameters: [
      "usize", // ncclComm_t comm
    ],
    result: "usize",
  },
} as const satisfies Deno.ForeignLibraryInterface;
