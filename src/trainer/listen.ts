import { StateError } from "../errors.ts";
import { asPermissionError } from "../internal/permission.ts";
import { type LinkAddress, linkAddressText } from "./address.ts";

/** Listens at an address. A socket file that a killed process left behind is taken over. */
export async function listenAt(address: LinkAddress): Promise<Deno.Listener> {
  const text = linkAddressText(address);
  try {
    if (address.kind === "tcp") {
      const { hostname, port } = address;
      return Deno.listen({ hostname, port });
    }
    await removeLeftOver(address.path);
    return Deno.listen({ transport: "unix", path: address.path });
  } catch (error) {
    if (error instanceof Deno.errors.AddrInUse) {
      throw new StateError(`Somebody else listens at ${text}`, { cause: error });
    }
    const flag = address.kind === "unix"
      ? `--allow-net=${text} --allow-read=${address.path} --allow-write=${address.path}`
      : `--allow-net=${address.hostname}:${address.port}`;
    throw asPermissionError(error, flag, `listen at ${text}`);
  }
}

/** A process that was killed leaves its socket behind, at which nobody answers. */
async function removeLeftOver(path: string): Promise<void> {
  try {
    (await Deno.connect({ transport: "unix", path })).close();
  } catch (error) {
    if (error instanceof Deno.errors.ConnectionRefused) await removeQuietly(path);
  }
}

/** Removes a socket file. */
export async function removeQuietly(path: string): Promise<void> {
  try {
    if ((await Deno.lstat(path)).isSocket) await Deno.remove(path);
  } catch { /* It is gone, or it is not ours to remove. */ }
}
