/// <reference no-default-lib="true" />
/// <reference lib="deno.worker" />
/** A thread that opens the libraries that it is told, and answers. */
import { Cudart } from "../../../ffi/cudart/mod.ts";
import type { LibraryOptions } from "../../../ffi/library.ts";
import { Nccl } from "../../../ffi/nccl/mod.ts";

self.onmessage = ({ data }: MessageEvent<LibraryOptions>) => {
  self.postMessage([Cudart.open(data).path, Nccl.open(data).path]);
};
