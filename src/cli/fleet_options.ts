/** The options by which commands find running servers. */
import { type Command, InvalidArgumentError } from "commander";
import { AsyncSGLang } from "../engine/mod.ts";
import { ValidationError } from "../errors.ts";
import { SGLangRouter } from "../router/mod.ts";
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

/** Addresses of the servers themselves, which may be paused or down. */
export async function serverUrls(options: FleetOptions, io: CliIo): Promise<readonly string[]> {
  const { server, router } = options;
  if (server.length > 0) return server;
  if (router === undefined) throw missingServers();
  const { apiKey } = keysOf(options, io);
  const workers = await SGLangRouter.connect(router, { apiKey }).workers({ signal: io.signal });
  return workers.map(({ url }) => url);
}

/** Connects to the servers that the options name; they must be up and not paused. */
export async function connectFleet(options: FleetOptions, io: CliIo): Promise<AsyncSGLang> {
  const { server, router } = options;
  if (server.length === 0 && router === undefined) throw missingServers();
  const target = router === undefined
    ? server
    : server.length === 0
    ? { router }
    : { router, workers: server };
  return await AsyncSGLang.connect(target, { ...keysOf(options, io), signal: io.signal });
}

function missingServers(): ValidationError {
  return new ValidationError("Give the servers with --server URL (or the router with --router)");
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
