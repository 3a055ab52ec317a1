import { checkOptionNames, type OptionNames } from "../../internal/option_names.ts";
import { ValidationError } from "../../errors.ts";
import { pathOf } from "../../internal/path_of.ts";
import { readRegularFile } from "../../internal/regular_file.ts";
import {
  polling,
  POLLING_OPTION_NAMES,
  type PollingOptions,
  type ServerDiscovery,
} from "./discovery.ts";

/** Options of {@linkcode serversInFile}. */
export interface ServersFileOptions extends PollingOptions {
  /** Longest file, in bytes. Default 1 MiB. */
  readonly maxBytes?: number | undefined;
}

const OPTION_NAMES = {
  ...POLLING_OPTION_NAMES,
  maxBytes: true,
} as const satisfies OptionNames<ServersFileOptions>;

/** Servers that never change. */
export function listedServers(urls: readonly string[]): ServerDiscovery {
  const { servers } = polling("a list of servers", () => Promise.resolve(urls.map(checked)), {});
  return {
    name: "a list of servers",
    servers,
    async *watch({ signal }) {
      yield await servers({ signal });
    },
  };
}

/**
 * Servers that a file lists, one address on a line; empty lines and what follows `#` do not count.
 * The file is looked at every `intervalMs` (5,000), so that it may be on a network file system.
 * Needs `--allow-read=<path>`.
 */
export function serversInFile(place: string, options: ServersFileOptions = {}): ServerDiscovery {
  checkOptionNames(options, OPTION_NAMES, "serversInFile()");
  const path = pathOf(place, "a list of servers");
  const { maxBytes = 1 << 20 } = options;
  return polling(`the file ${path}`, async (signal) => {
    const bytes = await readRegularFile(path, {
      refuse: (message, options) => new ValidationError(message, options),
      limit: "maxBytes",
      maxBytes,
      signal,
    });
    const text = new TextDecoder().decode(bytes);
    return text.split(/\r\n?|\n/).map((line) => line.replace(/#.*/, "").trim()).filter((line) =>
      line !== ""
    ).map(checked);
  }, options);
}

function checked(url: string): string {
  if (/^https?:$/.test(URL.parse(url)?.protocol ?? "")) return url;
  throw new ValidationError(`"${url}" is not the address of a server, as http://gpu-1:30000`);
}
