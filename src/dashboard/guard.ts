/** Who may ask the page for what. */
import { LimitError, ValidationError } from "../errors.ts";
import { isLoopback } from "../internal/hostname.ts";
import { hasBearerKey } from "../internal/same_secret.ts";

/** How a dashboard is guarded. */
export interface GuardOptions {
  readonly hostname: string;
  /** Needed for buttons, and for everything where others can connect. */
  readonly key: string | undefined;
}

const securityHeaders: Readonly<Record<string, string>> = {
  "content-security-policy":
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; " +
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
  "x-content-type-options": "nosniff",
  "referrer-policy": "no-referrer",
  "cross-origin-opener-policy": "same-origin",
  "cross-origin-resource-policy": "same-origin",
  "cache-control": "no-store",
};

/** An answer with the headers that every answer has. */
export function respond(
  body: BodyInit | null,
  init: { readonly status?: number; readonly type?: string; readonly headers?: HeadersInit } = {},
): Response {
  const headers = new Headers(securityHeaders);
  headers.set("content-type", init.type ?? "application/json");
  for (const [name, value] of new Headers(init.headers)) headers.set(name, value);
  return new Response(body, { status: init.status ?? 200, headers });
}

/**
 * An answer that takes its time; the work ends when whoever asked has left. What is wrong is told as
 * `error` in the answer: its status has gone before.
 */
export function respondInTime(work: (signal: AbortSignal) => Promise<unknown>): Response {
  return respondInParts(async function* (signal) {
    let answer: unknown;
    try {
      answer = await work(signal);
    } catch (error) {
      if (!(error instanceof ValidationError || error instanceof LimitError)) throw error;
      answer = { error: error.message };
    }
    yield JSON.stringify(answer);
  });
}

/** An answer of several texts, each made when it is wanted; the work ends with whoever asked, too. */
export function respondInParts(
  parts: (signal: AbortSignal) => AsyncGenerator<string>,
  init: NonNullable<Parameters<typeof respond>[1]> = {},
): Response {
  const leaving = new AbortController();
  const texts = parts(leaving.signal);
  const encoder = new TextEncoder();
  const body = new ReadableStream<Uint8Array>({
    async pull(controller) {
      try {
        const { done, value } = await texts.next();
        if (leaving.signal.aborted) return;
        if (done) controller.close();
        else controller.enqueue(encoder.encode(value));
      } catch (error) {
        if (!leaving.signal.aborted) controller.error(error);
      }
    },
    async cancel(reason) {
      // First: a generator that waits hears of nothing else.
      leaving.abort(reason);
      await texts.return(undefined).catch(() => {});
    },
  });
  return respond(body, init);
}

/** An error as the page reads it. */
export function refuse(status: number, message: string): Response {
  return respond(JSON.stringify({ error: message }), { status });
}

/**
 * Refuses what does not come to this address: a page of another site whose name was made to lead
 * here has that site's name in `Host`.
 */
export function refuseStranger(request: Request, { hostname }: GuardOptions): Response | undefined {
  const asked = new URL(request.url).hostname.replace(/^\[|\]$/g, "");
  if (isLoopback(hostname) && !isLoopback(asked)) {
    return refuse(403, "This page is for this machine: open it by its address");
  }
  const origin = request.headers.get("origin");
  if (origin !== null && URL.parse(origin)?.host !== new URL(request.url).host) {
    return refuse(403, "Another page may not ask this one");
  }
  return undefined;
}

/** Refuses who has not the key. */
export function refuseWithoutKey(request: Request, { key }: GuardOptions): Response | undefined {
  if (key === undefined) {
    return refuse(403, "Read only: start the dashboard with a key to use the buttons");
  }
  return hasBearerKey(request, key) ? undefined : refuse(401, "Give the key");
}
