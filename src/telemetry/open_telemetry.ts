import {
  type Attributes,
  type Context,
  context,
  propagation,
  type Span,
  SpanKind,
  SpanStatusCode,
  trace,
} from "@opentelemetry/api";
import { systemClock } from "../internal/clock.ts";
import { type Facts, observe, type Operation, type Watch } from "../internal/observe.ts";
import { attributesOf, spanNameOf } from "./attributes.ts";
import { Instruments } from "./instruments.ts";

/** Name under which the library's spans and instruments are found. */
const SCOPE = "@sglang-rl/sglang-rl";

/**
 * Sends traces and metrics of everything that this process does to OpenTelemetry: spans of requests,
 * turns, dialogs, groups, batches, syncs with their steps, server starts and refits, and the metrics
 * of docs/telemetry.md. Requests carry `traceparent`, so that a server's own spans join.
 *
 * It brings no SDK: with `OTEL_DENO=true` Deno exports them itself; in Node and elsewhere register
 * one. Until somebody is registered, nothing is recorded.
 *
 * @returns Ends it when disposed.
 *
 * @example
 * ```ts
 * import { enableTelemetry } from "@sglang-rl/sglang-rl/telemetry";
 *
 * using _telemetry = enableTelemetry();
 * // deno run with OTEL_DENO=true and OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:4318
 * ```
 */
export function enableTelemetry(): Disposable {
  enabled ??= { users: 0, observer: observeAll() };
  enabled.users++;
  let isUsed = true;
  return {
    [Symbol.dispose]() {
      if (!isUsed) return;
      isUsed = false;
      if (--enabled!.users > 0) return;
      enabled!.observer[Symbol.dispose]();
      enabled = undefined;
    },
  };
}

/** Asked for twice, everything is still told once. */
let enabled: { users: number; readonly observer: Disposable } | undefined;

function observeAll(): Disposable {
  const tracer = trace.getTracer(SCOPE);
  const instruments = new Instruments(SCOPE);
  return observe({
    begin(operation) {
      const { name, facts } = operation;
      const span = tracer.startSpan(spanNameOf(operation), {
        kind: name === "generate" ? SpanKind.CLIENT : SpanKind.INTERNAL,
        attributes: attributesOf(name, facts),
      });
      return watchSpan(operation, span, instruments);
    },
    headers() {
      const carrier: Record<string, string> = {};
      propagation.inject(context.active(), carrier);
      return carrier;
    },
  });
}

function watchSpan(operation: Operation, span: Span, instruments: Instruments): Watch {
  const { name, facts } = operation;
  const parent: Context = trace.setSpan(context.active(), span);
  const startedAt = systemClock.now();
  let hasEnded = false;
  return {
    within: (work) => context.with(parent, work),
    end(error) {
      if (hasEnded) return;
      hasEnded = true;
      const seconds = (systemClock.now() - startedAt) / 1000;
      if (error !== undefined) describeError(span, facts, error);
      span.setAttributes(attributesOf(name, facts));
      span.end();
      instruments.ended(operation, seconds);
    },
  };
}

function describeError(span: Span, facts: Facts, error: unknown): void {
  facts.error = errorType(error);
  const attributes: Attributes = { "error.type": facts.error };
  span.setAttributes(attributes);
  span.setStatus({
    code: SpanStatusCode.ERROR,
    message: error instanceof Error ? error.message.slice(0, 500) : String(error).slice(0, 500),
  });
}

function errorType(error: unknown): string {
  const code = (error as { code?: unknown } | null)?.code;
  if (typeof code === "string") return code;
  return error instanceof Error ? error.name : typeof error;
}
