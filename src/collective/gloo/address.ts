import { lookup } from "node:dns/promises";
import { isIP } from "node:net";
import { ProtocolError, UnreachableError } from "../../errors.ts";

/** Where a rank listens, as gloo publishes it. */
export interface GlooAddress {
  /** 4 bytes for IPv4, 16 for IPv6, in network order. */
  readonly ip: Uint8Array;
  /** TCP port. */
  readonly port: number;
}

/** The bytes of an IP address written as text. */
export function parseIp(text: string): Uint8Array {
  if (isIP(text) === 4) return Uint8Array.from(text.split("."), Number);
  if (isIP(text) !== 6) throw new ProtocolError(`"${text}" is no IP address`);
  // The URL parser writes every IPv6 address in one way: groups of hex digits, no dotted tail.
  const plain = new URL(`http://[${text.split("%")[0]}]`).hostname.slice(1, -1);
  const [head = "", tail] = plain.split("::");
  const before = head === "" ? [] : head.split(":");
  const after = tail === undefined || tail === "" ? [] : tail.split(":");
  const zeros = Array<string>(8 - before.length - after.length).fill("0");
  const groups = [...before, ...zeros, ...after].map((group) => parseInt(group, 16));
  return Uint8Array.from(groups.flatMap((group) => [group >> 8, group & 0xff]));
}

/** An IP address as text. */
export function formatIp(ip: Uint8Array): string {
  if (ip.length === 4) return ip.join(".");
  const groups = Array.from({ length: 8 }, (_, i) => ((ip[2 * i]! << 8) | ip[2 * i + 1]!));
  return groups.map((group) => group.toString(16)).join(":");
}

/** The IP address of a name, by the system's own resolution. */
export async function resolveHost(host: string): Promise<string> {
  if (isIP(host) !== 0) return host;
  try {
    return (await lookup(host)).address;
  } catch (error) {
    throw new UnreachableError(`The name ${host} cannot be resolved; give an IP address`, {
      cause: error,
      url: `tcp://${host}`,
    });
  }
}

/** Whether an address means "all interfaces", which nobody can connect to. */
export function isUnspecified(ip: Uint8Array): boolean {
  return ip.every((byte) => byte === 0);
}

/**
 * Whether the rank at `local` opens the connection to the one at `remote`, or waits for it: the
 * greater address connects.
 *
 * Source: gloo `transport/tcp/device.cc` (`Device::isInitiator`). It compares the ports as they lie
 * in a `sockaddr`, so the low byte counts first on little-endian machines.
 */
export function isInitiator(local: GlooAddress, remote: GlooAddress): boolean {
  if (local.ip.length !== remote.ip.length) {
    throw new ProtocolError(
      `gloo: this rank is at ${formatIp(local.ip)}, another at ${formatIp(remote.ip)}: all ranks ` +
        `must use the same IP version. Give the servers GLOO_SOCKET_IFNAME, or listen elsewhere`,
    );
  }
  const differing = local.ip.findIndex((byte, i) => byte !== remote.ip[i]);
  if (differing >= 0) return local.ip[differing]! > remote.ip[differing]!;
  if (local.port !== remote.port) return swapBytes(local.port) > swapBytes(remote.port);
  throw new ProtocolError(`gloo: two ranks are both at ${formatIp(local.ip)}:${local.port}`);
}

function swapBytes(port: number): number {
  return ((port & 0xff) << 8) | (port >> 8);
}
