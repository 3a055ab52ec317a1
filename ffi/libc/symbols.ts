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
  copy: {
    name: "memcpy",
    parameters: [
      "usize", // void *dest
      "usize", // const void *src
      "usize", // size_t n
    ],
    result: "usize",
  },
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
