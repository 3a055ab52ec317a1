import { checkOptionNames, type OptionNames } from "../../internal/option_names.ts";
import { namingPermission } from "../../internal/permission.ts";
import {
  checkPort,
  polling,
  POLLING_OPTION_NAMES,
  type PollingOptions,
  type ServerDiscovery,
  serverUrl,
} from "./discovery.ts";

/** Asks the resolver; `Deno.resolveDns` is one. */
export interface DnsResolver {
  (name: string, type: "A" | "AAAA", options: { signal?: AbortSignal }): Promise<string[]>;
  (
    name: string,
    type: "SRV",
    options: { signal?: AbortSignal },
  ): Promise<{ readonly target: string; readonly port: number }[]>;
}

/** Options of {@linkcode serversInDns}. */
export interface DnsOptions extends PollingOptions {
  /** Port of every server, for a name with `A` records such as a headless service. */
  readonly port?: number | undefined;
  /** Default `Deno.resolveDns`, which needs `--allow-net`. */
  readonly resolve?: DnsResolver | undefined;
}

const NAMES = {
  ...POLLING_OPTION_NAMES,
  port: true,
  resolve: true,
} as const satisfies OptionNames<DnsOptions>;

/**
 * Servers that a name stands for: with `port` those of its `A` records (`AAAA` where it has none), as a
 * headless service of Kubernetes has them, without those of its `SRV` records, such as `_http._tcp.sglang.local`, which
 * bring their ports.
 */
export function serversInDns(name: string, options: DnsOptions = {}): ServerDiscovery {
  checkOptionNames(options, NAMES, "serversInDns()");
  const { port } = options;
  if (port !== undefined) checkPort(port);
  const resolve = options.resolve ?? Deno.resolveDns as DnsResolver;
  const type = port === undefined ? "SRV" : "A";
  return polling(`${type} records of ${name}`, async (signal) => {
    const call = signal === undefined ? {} : { signal };
    return await namingPermission("--allow-net", `resolve ${name}`, async () => {
      if (port !== undefined) {
        return (await hostsOf(name, resolve, call)).map((host) => serverUrl(host, port));
      }
      const records = await resolve(name, "SRV", call);
      // A dot says that there is no such service (RFC 2782).
      return records.filter(({ target }) => target !== "." && target !== "")
        .map((record) => serverUrl(record.target, record.port));
    });
  }, options);
}

/** IPv4 addresses; where there are none, IPv6 ones, as every server may have one of each. */
async function hostsOf(
  name: string,
  resolve: DnsResolver,
  call: { signal?: AbortSignal },
): Promise<string[]> {
  let failure: unknown;
  const ofType = (type: "A" | "AAAA") =>
    resolve(name, type, call).catch((error) => {
      if (!(error instanceof Deno.errors.NotFound)) throw error;
      failure ??= error;
      return [] as string[];
    });
  const hosts = await ofType("A");
  if (hosts.length > 0) return hosts;
  const others = await ofType("AAAA");
  if (others.length === 0 && failure !== undefined) throw failure;
  return others;
}
