import process from "node:process";

/** Time of the processor that this process used so far, in milliseconds: a busy machine adds nothing. */
export function usedMs(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1000;
}

/**
 * Watches for the longest piece of work in which no timer had its turn. A gap by the clock tells of
 * the machine's other work too, by the processor only of ours.
 */
export function watchWork(): { readonly mostMs: number; stop(): void } {
  let most = 0;
  let last = usedMs();
  const timer = setInterval(() => {
    const now = usedMs();
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
