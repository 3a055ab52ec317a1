/**
 * The native code, loaded here and nowhere else, so that nobody needs `--allow-ffi` who does not use
 * it.
 */
export function loadNative(): Promise<typeof import("../../../ffi/mod.ts")> {
  return import("../../../ffi/mod.ts");
}
