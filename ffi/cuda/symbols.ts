/** Functions of the CUDA driver (`cuda.h`). */
export const cudaSymbols = {
  cuInit: {
    parameters: [
      "u32", // unsigned int Flags
    ],
    result: "i32",
  },
  cuDeviceGet: {
    parameters: [
      "buffer", // CUdevice *device
      "i32", // int ordinal
    ],
    result: "i32",
  },
  cuDeviceGetUuid_v2: {
    parameters: [
      "buffer", // CUuuid *uuid
      "i32", // CUdevice dev
    ],
    result: "i32",
  },
  cuDeviceGetName: {
    parameters: [
      "buffer", // char *name
      "i32", // int len
      "i32", // CUdevice dev
    ],
    result: "i32",
  },
  cuCtxGetCurrent: {
    parameters: [
      "buffer", // CUcontext *pctx
    ],
    result: "i32",
  },
  cuModuleLoadDataEx: {
    parameters: [
      "buffer", // CUmodule *module
      "buffer", // const void *image
      "u32", // unsigned int numOptions
      "usize", // CUjit_option *options
      "usize", // void **optionValues
    ],
    result: "i32",
  },
  cuModuleUnload: {
    parameters: [
      "usize", // CUmodule hmod
    ],
    result: "i32",
  },
  cuModuleGetFunction: {
    parameters: [
      "buffer", // CUfunction *hfunc
      "usize", // CUmodule hmod
      "buffer", // const char *name
    ],
    result: "i32",
  },
  cuLaunchKernel: {
    parameters: [
      "usize", // CUfunction f
      "u32", // unsigned int gridDimX
      "u32", // unsigned int gridDimY
      "u32", // unsigned int gridDimZ
      "u32", // unsigned int blockDimX
      "u32", // unsigned int blockDimY
      "u32", // unsigned int blockDimZ
      "u32", // unsigned int sharedMemBytes
      "usize", // CUstream hStream
      "usize", // void **kernelParams
      "usize", // void **extra
    ],
    result: "i32",
  },
  cuGetErrorName: {
    parameters: [
      "i32", // CUresult error
      "buffer", // const char **pStr
    ],
    result: "i32",
  },
  cuGetErrorString: {
    parameters: [
      "i32", // CUresult error
      "buffer", // const char **pStr
    ],
    result: "i32",
  },
} as const satisfies Deno.ForeignLibraryInterface;
