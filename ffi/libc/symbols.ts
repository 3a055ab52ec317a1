const copyBetweenAddresses = {
  name: "memcpy",
  parameters: [
    "usize", // void *dest
    "usize", // const void *src
    "usize", // size_t n
  ],
  result: "usize",
} as const;

/**
 * The few functions of the C library that reading and writing native memory needs.
 *
 * They are looked up through the handle of a library that is opened anyway (`dlsym` on a handle
 * also searches what that library depends on), so that no further `--allow-ffi` path is needed.
 */
export const libcSymbols = {
  memmove: {
    parameters: [
      "buffer", // void *dest
      "buffer", // const void *src
      "usize", // size_t n
    ],
    result: "usize",
  },
  peek: {
    name: "memcpy",
    parameters: [
      "buffer", // void *dest
      "usize", // const void *src
      "usize", // size_t n
    ],
    result: "usize",
  },
  poke: {
    name: "memcpy",
    parameters: [
      "usize", // void *dest
      "buffer", // const void *src
      "usize", // size_t n
    ],
    result: "usize",
  },
  copy: copyBetweenAddresses,
  copyAside: { ...copyBetweenAddresses, nonblocking: true },
  strlen: {
    parameters: [
      "usize", // const char *s
    ],
    result: "usize",
  },
  setenv: {
    parameters: [
      "buffer", // const char *name
      "buffer", // const char *value
      "i32", // int overwrite
    ],
    result: "i32",
  },
} as const satisfies Deno.ForeignLibraryInterface;

/** The loader's own function, found the same way. */
export const loaderSymbols = {
  loadAgain: {
    name: "dlopen",
    parameters: [
      "buffer", // const char *filename
      "i32", // int flags
    ],
    result: "usize", // void *handle
  },
} as const satisfies Deno.ForeignLibraryInterface;

/**
 * `RTLD_LAZY | RTLD_NOLOAD | RTLD_NODELETE` of `dlfcn.h` on Linux: a library that is loaded already
 * is never unloaded again.
 */
export const KEEP_LOADED = 0x1 | 0x4 | 0x1000;
