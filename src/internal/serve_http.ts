import { systemClock } from "./clock.ts";
import { sleep } from "./deadline.ts";
import { asListenError } from "./listen_error.ts";
import { type HttpServer, runtime } from "../runtime/mod.ts";

/** Where and how {@linkcode serveHttp} listens. */
export interface ServeHttpOptions {
  readonly hostname: string;
  /** 0 for a free one. */
  readonly port: number;
  readonly signal?: AbortSignal | undefined;
  readonly handler: (request: Request) => Response | Promise<Response>;
  /** Told of what the handler threw; whoever asked gets a 500 that says nothing of it. */
  readonly onError?: ((error: unknown) => void) | undefined;
}

/** How long answers under way may still take when a server ends, and how long one is written at most. */
const ENDING_MS = 2_000, WRITING_MS = 50;

/**
 * The end of a server that no client can put off. `Deno.serve` shuts down when every connection has
 * been answered and has ended: a client that sends half a body, or reads half an answer, is waited for
 * without end, and what was shut down cannot be ended at once any more.
 */
export class Answers {
  readonly #underWay = new Set<Promise<Response>>();
  readonly #end = new AbortController();
  #madeAt = -Infinity;

  /** Ends the server, with its connections. */
  get signal(): AbortSignal {
    return this.#end.signal;
  }

  /** Makes an answer, which an end waits for. */
  async make(answer: () => Response | Promise<Response>): Promise<Response> {
    const making = (async () => await answer())();
    this.#underWay.add(making);
    try {
      return await making;
    } finally {
      this.#underWay.delete(making);
      this.#madeAt = systemClock.now();
    }
  }

  /** Lets the answers under way be made and written, for a while, and ends the server. */
  async end(): Promise<void> {
    const over = Promise.withResolvers<void>();
    const cancel = systemClock.schedule(ENDING_MS, over.resolve);
    await Promise.race([Promise.allSettled(this.#underWay), over.promise]);
    cancel();
    const rest = this.#madeAt + WRITING_MS - systemClock.now();
    if (rest > 0) await sleep(rest);
    this.#end.abort();
  }
}

/** To who sent a `Host` that is none, such as one with a space. */
const noAddress = () => new Response("The Host header is no host\n", { status: 400 });

/**
 * Answers HTTP requests, with errors of ours where that cannot begin. Its `shutdown()` lets the answers
 * under way be made, for two seconds at most.
 *
 * @throws {PermissionError} Deno may not listen there.
 * @throws {StateError} The port is taken.
 * @throws {ValidationError} The address is none of this machine.
 */
export async function serveHttp(options: ServeHttpOptions): Promise<HttpServer> {
  const { hostname, port, signal, handler, onError } = options;
  const answers = new Answers();
  try {
    const server = await runtime().serve({
      hostname,
      port,
      signal: signal === undefined ? answers.signal : AbortSignal.any([signal, answers.signal]),
      onError(error) {
        onError?.(error);
        return new Response("It did not work; the program that serves this page tells why\n", {
          status: 500,
        });
      },
      handler: (request) =>
        URL.canParse(request.url) ? answers.make(() => handler(request)) : noAddress(),
    });
    return {
      addr: server.addr,
      finished: server.finished,
      async shutdown() {
        await answers.end();
        await server.finished;
      },
    };
  } catch (error) {
    throw asListenError(error, { hostname, port });
  }
}
