import { InvalidArgumentError } from "commander";

/** Where a command listens. */
export interface ListenAddress {
  readonly hostname: string;
  readonly port: number;
}

/** Reads `port`, `host:port` or `[ipv6]:port`; without a host it is this machine alone. */
export function addressFrom(text: string): ListenAddress {
  const match = /^(?:(?:\[([0-9a-fA-F:.]+)\]|([^:[\]\s]+)):)?(\d{1,5})$/.exec(text);
  const port = Number(match?.[3]);
  if (match === null || port > 65_535) {
    throw new InvalidArgumentError("It is a port from 0 to 65535, or host:port.");
  }
  return { hostname: match[1] ?? match[2] ?? "127.0.0.1", port };
}
