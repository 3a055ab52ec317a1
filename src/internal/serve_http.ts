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

/** To who sent a `Host` that is none, such as one with a space. */
const noAddress = () => new Response("The Host header is no host\n", { status: 400 });

/**
 * Answers HTTP requests, with errors of ours where that cannot begin.
 *
 * @throws {PermissionError} Deno may not listen there.
 * @throws {StateError} The port is taken.
 * @throws {ValidationError} The address is none of this machine.
 */
export async function serveHttp(options: ServeHttpOptions): Promise<HttpServer> {
  const { hostname, port, signal, handler, onError } = options;
  try {
    return await runtime().serve({
      hostname,
      port,
      signal,
      onError(error) {
        onError?.(error);
        return new Response("It did not work; the program that serves this page tells why\n", {
          status: 500,
        });
      },
      handler: (request) => URL.canParse(request.url) ? handler(request) : noAddress(),
    });
  } catch (error) {
    throw asListenError(error, { hostname, port });
  }
}
