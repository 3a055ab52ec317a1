/** The one place that knows whether Deno, Node or Bun runs this library. */
import { denoRuntime } from "./deno.ts";
import { NodeRuntime } from "./node/mod.ts";
import type { Runtime } from "./types.ts";

export { isSystemError, type SystemErrorKind } from "./system_error.ts";
export type {
  Connection,
  FileInfo,
  FolderEntry,
  HttpServer,
  NetAddress,
  OpenFile,
  OpenOptions,
  Permission,
  Runtime,
  ServeOptions,
  TcpConnection,
  TlsOptions,
} from "./types.ts";

let chosen: Runtime | undefined;

/** The program that runs this, looked for at the first call. */
export function runtime(): Runtime {
  return chosen ??= "Deno" in globalThis ? denoRuntime : new NodeRuntime();
}
