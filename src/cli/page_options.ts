/** The options of commands that serve a page. */
import { type Command, Option } from "commander";
import { ValidationError } from "../errors.ts";
import { isLoopback } from "../internal/hostname.ts";
import { requireSendableKey } from "../internal/same_secret.ts";
import type { CliIo } from "./io.ts";
import { addressFrom, type ListenAddress } from "./listen_address.ts";

/** What {@linkcode addPageOptions} adds. */
export interface PageOptions {
  readonly listen: ListenAddress;
  readonly keyEnv: string;
}

/** Shortest key of a page. */
const SHORTEST_KEY = 16;

/** Adds where a page is, and its key. */
export function addPageOptions(command: Command, defaultPort: string): Command {
  return command
    .addOption(
      new Option("--listen <[host:]port>", "where the page is")
        .argParser(addressFrom)
        .default(addressFrom(defaultPort), `127.0.0.1:${defaultPort}`),
    )
    .option("--key-env <name>", "variable with the page's key", "SGLANG_RL_DASHBOARD_KEY");
}

/** Where the page is and with which key, from the environment: a command line is seen by all. */
export function pageAccess(
  { listen: { hostname, port }, keyEnv }: PageOptions,
  io: CliIo,
): { readonly hostname: string; readonly port: number; readonly key: string | undefined } {
  const key = io.env(keyEnv);
  requireSendableKey(`$${keyEnv}`, key);
  if (key !== undefined && key.length < SHORTEST_KEY) {
    throw new ValidationError(`$${keyEnv} must have at least ${SHORTEST_KEY} characters`);
  }
  if (key === undefined && !isLoopback(hostname)) {
    throw new ValidationError(
      `A page at ${hostname} can be reached by others: set $${keyEnv} to a key of at least ` +
        `${SHORTEST_KEY} characters, such as that of openssl rand -hex 16`,
    );
  }
  return { hostname, port, key };
}
