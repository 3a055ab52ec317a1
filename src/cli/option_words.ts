/** What the library's errors name, in the words of the command that it reaches. */
import type { ConnectOptions, FromPretrainedOptions } from "../engine/mod.ts";
import type { KubernetesManifestOptions, SlurmScriptOptions } from "../fleet/launch/mod.ts";
import type { GatewayOptions } from "../gateway/mod.ts";
import { splitLastLines } from "../internal/last_lines.ts";
import { messageOf } from "../internal/thrown.ts";
import { flagKeys, type SGLangServerOptions } from "../server/options.ts";
import type { WeightSyncOptions } from "../weights/mod.ts";

/** Options of the library, and how a command is told the same. */
type Words<Options> = { readonly [Name in keyof Options & string]?: string };

const keys = {
  apiKey: "the variable of --api-key-env",
  adminApiKey: "the variable of --admin-key-env",
} satisfies Words<ConnectOptions>;

/** How commands reach servers. */
const access = {
  ...keys,
  caCerts: "--ca-cert",
  proxy: "--proxy",
  maxConcurrency: "the number of prompts",
} satisfies Words<ConnectOptions>;

const servers = { ...access, workers: "--server", router: "--router" };

/** Flags of SGLang that the library has an option for are given with `--arg`. */
const serverFlags = Object.fromEntries(flagKeys.map((name) => {
  return [name, `--arg ${name.replaceAll(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`];
}));

const serve = {
  ...serverFlags,
  ...{
    model: "MODEL",
    host: "--host",
    port: "--port",
    tpSize: "--tp",
    device: "--device",
    dtype: "--dtype",
    python: "--python",
    args: "--arg",
    apiKey: access.apiKey,
    adminApiKey: access.adminApiKey,
    gpus: "$CUDA_VISIBLE_DEVICES",
    logFile: "--log-dir",
    env: "the environment",
  } satisfies Words<SGLangServerOptions>,
  ...{
    numReplicas: "--replicas",
    router: "--router",
    logFolder: "--log-dir",
    supervise: "--supervise",
    maxConcurrency: access.maxConcurrency,
  } satisfies Words<FromPretrainedOptions>,
  minHealthy: "--min-healthy",
  restartLimit: "--restart-limit",
  firstGpu: "--arg base-gpu-id",
  "router.python": "--router-python",
  "router.port": "--port",
  "router.host": "--host",
  "router.prometheusPort": "a port of its own for metrics",
};

const sync = {
  ...servers,
  ...{
    transport: "--transport",
    serversSeeDevice: "--servers-see-device",
    pauseMode: "--pause-mode",
    verify: "--verify",
    nameCheck: "--name-check",
    castFloat32To: "--cast-float32-to",
    draft: "--draft",
    bucketBytes: "--bucket-mb",
    masterAddress: "--master-address",
    disk: "--disk-folder",
  } satisfies Words<WeightSyncOptions>,
  version: "--weight-version",
  "disk.folder": "--disk-folder",
};

/** Errors have the names that SGLang has. */
const sampling = {
  n: "--samples",
  max_new_tokens: "--max-new-tokens",
  temperature: "--temperature",
  top_p: "--top-p",
  top_k: "--top-k",
  sampling_seed: "--seed",
  stop: "--stop",
};

const generate = {
  ...servers,
  ...sampling,
  returnLogProbs: "--log-probs",
};

const launch = {
  ...{
    model: "MODEL",
    name: "--name",
    replicas: "--replicas",
    nnodes: "--nnodes",
    gpusPerNode: "--gpus-per-node",
    tpSize: "--tp",
    port: "--port",
    args: "--arg",
    partition: "--partition",
    time: "--time",
    cpusPerTask: "--cpus-per-task",
    python: "--python",
    prefix: "--prefix",
    command: "--command",
  } satisfies Words<SlurmScriptOptions>,
  ...{
    image: "--image",
    routerImage: "--router-image",
    modelsClaim: "--models-claim",
    keysSecret: "--keys-secret",
  } satisfies Words<KubernetesManifestOptions>,
};

const gateway = {
  ...servers,
  ...{
    hostname: "--host",
    port: "--port",
    models: "--adapter",
    adminKey: "the variable of --gateway-key-env",
  } satisfies Words<GatewayOptions>,
};

const page = { hostname: "--listen", port: "--listen", key: "the variable of --key-env" };

/** The words of each command that calls the library; those of others are none of its options. */
export const commandWords: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  serve,
  generate,
  gateway,
  sync,
  launch,
  bench: { ...servers, max_new_tokens: "--max-new-tokens", returnLogProbs: "--no-log-probs" },
  status: servers,
  pause: { ...servers, mode: "--mode" },
  resume: servers,
  metrics: { ...servers, hostname: "--listen", port: "--listen" },
  doctor: { ...servers, python: "--python" },
  dashboard: { ...servers, ...page },
  view: { ...page, tokenizer: "--tokenizer" },
  drain: keys,
  restart: { ...keys, force: "--force" },
  logs: keys,
};

/** Calls that errors advise, and the command that makes them. */
const calls: Readonly<Record<string, string>> = {
  "updateWeights()": "sglang-rl sync",
  "(updateWeights), or refitWorker() them; quarantine: false lets them serve as they are":
    'by "sglang-rl sync"',
  "resume()": '"sglang-rl resume"',
  'pause("abort")': '"sglang-rl pause --mode abort"',
  "or set finite: false": "or do without: --verify version",
};

/**
 * The message as the command's own: by its flags and not by the names of the library's options. What
 * the user gave and what processes wrote stays as it is.
 *
 * @param given The arguments of the command line.
 */
export function inFlags(message: string, command: string, given: readonly string[] = []): string {
  const words = commandWords[command] ?? {};
  const [ours, theirs] = splitLastLines(message);
  // A mere word may be an option's name, or the value that the message tells with it.
  const values = given.flatMap((one) => [one, one.slice(one.indexOf("=") + 1)])
    .filter((value) => !/^[\w.-]*$/.test(value));
  return piecesOf(ours, values)
    .map(({ text, isGiven }) => isGiven ? text : inWords(text, words)).join("") + theirs;
}

/** The text, cut where one of `values` stands in it; the longest first. */
function piecesOf(
  text: string,
  values: readonly string[],
): readonly { readonly text: string; readonly isGiven: boolean }[] {
  if (values.length === 0) return [{ text, isGiven: false }];
  const pattern = [...new Set(values)].toSorted((a, b) => b.length - a.length)
    .map((value) => RegExp.escape(value)).join("|");
  return text.split(new RegExp(`(${pattern})`)).map((piece, i) => ({
    text: piece,
    isGiven: i % 2 === 1,
  }));
}

/** An option as errors name it; what else stands in double quotes is left. */
const NAMED = new RegExp(
  [
    // Between backticks, which only options have.
    String.raw`\x60(?<ticked>[\w.]+)(?:: (?<tickedValue>[^\x60]+))?\x60`,
    // With a value.
    String.raw`(?<![\w./\\$-])(?<valued>[a-z]\w*: |(?:transport|verify|pauseMode) (?=["']))` +
    String.raw`(?<value>"[^"]*"|'[^']*'|true\b|false\b)`,
    // A name that is no word: a path or a call is none.
    String.raw`(?<![\w./\\$-])(?<named>[a-z][a-z0-9]*[A-Z_]\w*)(?![\w/\\(]|\.\w)`,
    // At the beginning of a sentence that says what it must be.
    String.raw`(?<=^|[.:] )(?<first>[a-z]+)(?= (?:must|is|needs)\b)`,
    String.raw`"[^"\n]*"`,
  ].join("|"),
  "g",
);

function inWords(text: string, words: Readonly<Record<string, string>>): string {
  let told = text;
  for (const [call, command] of Object.entries(calls)) told = told.replaceAll(call, command);
  return told.replace(NAMED, (whole, ...rest) => {
    const groups: Readonly<Record<string, string | undefined>> = rest.at(-1);
    const { ticked, valued, named, first } = groups;
    const name = ticked ?? valued?.replace(/:? $/, "") ?? named ?? first ?? "";
    const flag = Object.hasOwn(words, name) ? words[name] : undefined;
    if (flag === undefined) return whole;
    const value = (groups.tickedValue ?? groups.value)?.replace(/^(["'])(.*)\1$/, "$2");
    return value === undefined || value === "true" ? flag : `${flag} ${value}`;
  });
}

/** What went wrong, in the words of the command. */
export function toldBy(command: string, error: unknown): string {
  return inFlags(messageOf(error), command);
}
