/** The options by which commands find running servers. */
import { type Command, InvalidArgumentError, Option } from "commander";
import { SGLangClient } from "../client/mod.ts";
import { AsyncSGLang, type ConnectOptions } from "../engine/mod.ts";
import { UnreachableError, ValidationError } from "../errors.ts";
import { canonicalUrl } from "../internal/canonical_url.ts";
import { systemClock } from "../internal/clock.ts";
import { sleep } from "../internal/deadline.ts";
import { asPermissionError } from "../internal/permission.ts";
import { messageOf } from "../internal/thrown.ts";
import { SGLangRouter } from "../router/mod.ts";
import type { CliIo } from "./io.ts";

/** What {@linkcode addFleetOptions} adds. */
export interface FleetOptions {
  readonly server: readonly string[];
  readonly router?: string | undefined;
  readonly apiKeyEnv: string;
  readonly adminKeyEnv: string;
  readonly wait?: number | undefined;
  readonly caCert?: string | undefined;
  readonly proxy?: string | undefined;
}

/** Adds the options by which a command finds its servers. */
export function addFleetOptions(command: Command): Command {
  return command
    .addOption(
      new Option(
        "-s, --server <url>",
        "address of a server; may be repeated, or several with commas",
      )
        .argParser(collectAddresses)
        .default([], "none"),
    )
    .option("-r, --router <url>", "address of the router in front of them", oneAddress)
    .option("--api-key-env <name>", "variable that holds the servers' key", "SGLANG_API_KEY")
    .option(
      "--admin-key-env <name>",
      "variable that holds their admin key",
      "SGLANG_ADMIN_API_KEY",
    )
    .option("--ca-cert <file>", "certificates in PEM to trust for https, besides the usual ones")
    .option(
      "--proxy <url>",
      'HTTP proxy, or "environment" for $http_proxy (default: none)',
      (value) => value === "environment" ? value : oneAddress(value),
    )
    .option("--wait <seconds>", "wait this long until somebody answers", numberFrom(0));
}

/** Addresses of the servers themselves, which may be paused or down. */
export async function serverUrls(options: FleetOptions, io: CliIo): Promise<readonly string[]> {
  await untilSomebodyAnswers(options, io);
  const { server, router } = options;
  if (server.length > 0) return server;
  if (router === undefined) throw missingServers();
  const { apiKey, proxy, caCerts } = accessOf(options, io);
  const connected = SGLangRouter.connect(router, { apiKey, proxy, caCerts });
  const workers = await connected.workers({ signal: io.signal });
  return [...new Set(workers.map(({ url }) => url))];
}

/** Connects to the servers that the options name; they must be up and not paused. */
export async function connectFleet(options: FleetOptions, io: CliIo): Promise<AsyncSGLang> {
  const { server, router } = options;
  if (server.length === 0 && router === undefined) throw missingServers();
  await untilSomebodyAnswers(options, io);
  const target = router === undefined
    ? server
    : server.length === 0
    ? { router }
    : { router, workers: server };
  return await AsyncSGLang.connect(target, { ...accessOf(options, io), signal: io.signal });
}

/** How long a server that does not answer is left alone. */
const waitPauseMs = 200;

/** With `--wait`: until every named address takes a connection, or the time is over. */
export async function untilSomebodyAnswers(options: FleetOptions, io: CliIo): Promise<void> {
  const { server, router, wait } = options;
  if (wait === undefined || wait === 0) return;
  const urls = router === undefined ? server : [router, ...server];
  const access = accessOf(options, io);
  await Promise.all(urls.map(async (url) => {
    await using client = new SGLangClient({ url, ...access });
    const end = systemClock.now() + wait * 1000;
    while (!await client.health({ timeoutMs: 5000, signal: io.signal })) {
      if (systemClock.now() >= end) {
        throw new UnreachableError(`Nobody answers at ${url} after ${wait} s`, { url });
      }
      await sleep(waitPauseMs, { signal: io.signal });
    }
  }));
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

/** How running servers are reached: keys, certificates, proxy. */
export function accessOf(
  options: Pick<FleetOptions, "apiKeyEnv" | "adminKeyEnv" | "caCert" | "proxy">,
  io: CliIo,
): Pick<ConnectOptions, "apiKey" | "adminApiKey" | "caCerts" | "proxy"> {
  const { caCert, proxy } = options;
  const caCerts = caCert === undefined ? undefined : [certificatesOf(caCert)];
  return { ...keysOf(options, io), proxy, caCerts };
}

function certificatesOf(path: string): string {
  const text = readText(path);
  if (text.includes("-----BEGIN CERTIFICATE-----")) return text;
  throw new ValidationError(
    `${path} has no certificate in PEM ("-----BEGIN CERTIFICATE-----"), as --ca-cert needs it`,
  );
}

function readText(path: string): string {
  try {
    return Deno.readTextFileSync(path);
  } catch (error) {
    const known = asPermissionError(error, `--allow-read=${path}`, `read ${path}`);
    if (known !== error) throw known;
    throw new ValidationError(`--ca-cert ${path} cannot be read: ${messageOf(error)}`);
  }
}

/** Collects addresses, given one by one or with commas between them. */
function collectAddresses(value: string, before: readonly string[]): string[] {
  const given = value.split(",").map((url) => url.trim()).filter((url) => url !== "");
  // A server that is named twice is one server.
  return [...new Set([...before, ...given.map(oneAddress)])];
}

/** An option's value as an address, in the one form in which addresses are compared. */
export function oneAddress(value: string): string {
  const url = value.trim();
  if (!/^https?:$/.test(URL.parse(url)?.protocol ?? "")) {
    throw new InvalidArgumentError(
      `"${url}" is not the address of a server, such as http://127.0.0.1:30000.`,
    );
  }
  return canonicalUrl(url);
}

/** An option's value as a whole number of at least `least`. */
export function wholeNumber(least: number): (value: string) => number {
  return (value) => {
    const number = Number(value);
    if (Number.isInteger(number) && number >= least) return number;
    throw new InvalidArgumentError(`It takes a whole number of ${least} or more.`);
  };
}

/** An option's value as a port to listen on. */
export function portNumber(value: string): number {
  const port = Number(value);
  if (/^\d{1,5}$/.test(value) && port >= 1 && port <= 65_535) return port;
  throw new InvalidArgumentError("It takes a port from 1 to 65535.");
}

/** An option's value as a number of at least `least`. */
export function numberFrom(least: number): (value: string) => number {
  return (value) => {
    const number = Number(value);
    if (value.trim() !== "" && Number.isFinite(number) && number >= least) return number;
    throw new InvalidArgumentError(`It takes a number of ${least} or more.`);
  };
}

/** An option that may be given several times. */
export function repeatable(flags: string, description: string): Option {
  return new Option(flags, description)
    .argParser((value: string, before: readonly string[]) => [...before, value])
    .default([], "none");
}
