/** What a process has at one moment. */
export interface Resources {
  /** Minutes since the start. */
  readonly minute: number;
  /** All its memory, in MiB. */
  readonly rss: number;
  /** Objects of JavaScript that are alive or not collected yet, in MiB. */
  readonly heapUsed: number;
  /** Memory that V8 holds for them, in MiB. */
  readonly heapTotal: number;
  /** Buffers outside V8's heap, in MiB. */
  readonly external: number;
  /** Open files and sockets. */
  readonly files: number;
}

/**
 * Looks at this process, after what is garbage has gone where `--expose-gc` allows it: else the
 * memory tells when V8 collected last, tens of MiB up and down.
 */
export function resourcesAt(minute: number): Resources {
  (globalThis as { gc?: () => void }).gc?.();
  const { rss, heapUsed, heapTotal, external } = Deno.memoryUsage();
  const mib = (bytes: number) => Math.round(bytes / 2 ** 20 * 10) / 10;
  return {
    minute: Math.round(minute * 100) / 100,
    rss: mib(rss),
    heapUsed: mib(heapUsed),
    heapTotal: mib(heapTotal),
    external: mib(external),
    files: [...Deno.readDirSync("/proc/self/fd")].length,
  };
}

/** How much a number grows in a minute: the slope of the straight line that fits best. */
export function growth(
  samples: readonly Resources[],
  name: "rss" | "heapUsed" | "external" | "files",
): number {
  const mean = (values: number[]) => values.reduce((a, b) => a + b, 0) / values.length;
  const x = mean(samples.map(({ minute }) => minute));
  const y = mean(samples.map((one) => one[name]));
  const over = samples.reduce((sum, one) => sum + (one.minute - x) * (one[name] - y), 0);
  const slope = over / samples.reduce((sum, { minute }) => sum + (minute - x) ** 2, 0);
  return Math.round(slope * 1000) / 1000;
}
