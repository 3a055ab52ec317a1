/** What a process has at one moment. */
export interface Resources {
  /** Minutes since the start. */
  readonly minute: number;
  /** All its memory, in MiB. */
  readonly rss: number;
  /** The same without the parts of files that are in memory, such as Deno's own program. */
  readonly own: number;
  /** Objects of JavaScript that are alive, in MiB. */
  readonly heapUsed: number;
  /** Memory that V8 holds for them, in MiB. */
  readonly heapTotal: number;
  /** Buffers outside V8's heap, in MiB. */
  readonly external: number;
  /** Open files and sockets. */
  readonly files: number;
  /** All memory of the processes beside it, the servers, in MiB. */
  readonly servers: number;
}

/**
 * Looks at this process, after what is garbage has gone where `--expose-gc` allows it: else the
 * memory tells when V8 collected last, tens of MiB up and down.
 */
export function resourcesAt(minute: number, others: readonly number[] = []): Resources {
  (globalThis as { gc?: () => void }).gc?.();
  const { rss, heapUsed, heapTotal, external } = Deno.memoryUsage();
  return {
    minute: Math.round(minute * 100) / 100,
    rss: mib(rss),
    own: memoryOf("self", "RssAnon"),
    heapUsed: mib(heapUsed),
    heapTotal: mib(heapTotal),
    external: mib(external),
    files: [...Deno.readDirSync("/proc/self/fd")].length,
    servers: others.reduce((sum, pid) => sum + memoryOf(String(pid), "VmRSS"), 0),
  };
}

function mib(bytes: number): number {
  return Math.round(bytes / 2 ** 20 * 100) / 100;
}

/** What Linux tells of a process's memory, in MiB; 0 for one that has ended. */
function memoryOf(process: string, name: string): number {
  try {
    const status = Deno.readTextFileSync(`/proc/${process}/status`);
    return mib(1024 * Number(new RegExp(`^${name}:\\s*(\\d+) kB`, "m").exec(status)?.[1]));
  } catch {
    return 0;
  }
}
