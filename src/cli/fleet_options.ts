/** The options by which commands find running servers. */
import { type Command, InvalidArgumentError } from "commander";
import { AsyncSGLang } from "../engine/mod.ts";
import { ValidationError } from "../errors.ts";
import type { CliIo } from "./io.ts";

/** What {@linkcode addFleetOptions} adds. */
export interface FleetOptions {
  readonly server: readonly string[];
  readonly router?: string | undefined;
  readonly apiKeyEnv: string;
  readonly adminKeyEnv: string;
}

/** Adds the options by which a command finds its servers. */
export function addFleetOptions(command: Command): Command {
  return command
    .option("-s, --server <url...>", "address of a server; may be repeated", [])
    .option("-r, --router <url>", "address of the router in front of them")
    .option("--api-key-env <name>", "variable that holds the servers' key", "SGLANG_API_KEY")
    .option(
      "--admin-key-env <name>",
      "variable that holds their admin key",
      "SGLANG_ADMIN_API_KEY",
    );
}

/** Connects to the servers that the options name. */
export async function connectFleet(options: FleetOptions, io: CliIo): Promise<AsyncSGLang> {
  const { server, router } = options;
  if (server.length === 0 && router === undefined) {
    throw new ValidationError("Give the servers with --server URL (or the router with --router)");
  }
  const target = router === undefined
    ? server
    : server.length === 0
    ? { router }
    : { router, workers: server };
  return await AsyncSGLang.connect(target, { ...keysOf(options, io), signal: io.signal });
}

/** The keys, from the environment: on a command line everybody on the machine could read them. */
export function keysOf(
  options: Pick<FleetOptions, "apiKeyEnv" | "adminKeyEnv">,
  io: CliIo,
): { apiKey: string | undefined; adminApiKey: string | undefined } {
  return { apiKey: io.env(options.apiKeyEnv), adminApiKey: io.env(options.adminKeyEnv) };
}

/** An option's value as a whole number of at least `least`. */
export function wholeNumber(least: number): (value: string) => number {
  return (value) => {
    const number = Number(value);
    if (Number.isInteger(number) && number >= least) return number;
    throw new InvalidArgumentError(`It takes a whole number of ${least} or more.`);
  };
}

/** An option's value as a number of at least `least`. */
export function numberFrom(least: number): (value: string) => number {
  return (value) => {
    const number = Number(value);
    if (value.trim() !== "" && Number.isFinite(number) && number >= least) return number;
    throw new InvalidArgumentError(`It takes a number of ${least} or more.`);
  };
}

/** Collects an option that may be given several times. */
export function collect(value: string, before: readonly string[] = []): string[] {
  return [...before, value];
}
