import process from "node:process";

/** Time of the processor that this process used so far, in milliseconds: a busy machine adds nothing. */
export function usedMs(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1000;
}

/**
 * Time of the processor that the thread of the event loop used, in milliseconds; where the system does
 * not tell it (it is Linux that does), that of the process, in which others collect garbage too.
 */
function loopUsedMs(): number {
  try {
    const told = Deno.readTextFileSync(`/proc/self/task/${Deno.pid}/schedstat`);
    return Number(told.split(" ")[0]) / 1e6;
  } catch {
    return usedMs();
  }
}

/**
 * Watches for the longest piece of work in which no timer had its turn. A gap by the clock tells of
 * the machine's other work too, by the processor of the loop's own thread only of what held the loop.
 */
export function watchWork(): { readonly mostMs: number; stop(): void } {
  let most = 0;
  let last = loopUsedMs();
  const timer = setInterval(() => {
    const now = loopUsedMs();
    most = Math.max(most, now - last);
    last = now;
  }, 2);
  return {
    get mostMs() {
      return most;
    },
    stop: () => clearInterval(timer),
  };
}
