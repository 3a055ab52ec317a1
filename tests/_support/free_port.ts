/** Below the ports that the system gives to whoever asks for any, so that no other test is given it. */
const FIRST = 10_000;
const COUNT = 20_000;

/** A port on which nobody listens now, and nobody will who does not ask for it by its number. */
export function freePort(): number {
  for (;;) {
    const port = FIRST + Math.floor(Math.random() * COUNT);
    try {
      Deno.listen({ hostname: "127.0.0.1", port }).close();
      return port;
    } catch (error) {
      if (!(error instanceof Deno.errors.AddrInUse)) throw error;
    }
  }
}
