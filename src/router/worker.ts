import { z } from "zod";
import { ProtocolError, ValidationError } from "../errors.ts";
import { canonicalUrl } from "../internal/canonical_url.ts";

/** A server as its router sees it. */
export interface RouterWorker {
  /** Id that the router gave it; a server that is added again gets a new one. */
  readonly id: string;
  /** Address of the server. */
  readonly url: string;
  /** Whether it gets requests. */
  readonly isHealthy: boolean;
  /** Requests that the router has sent to it and that run. */
  readonly load: number;
  /** Name of its model, as the server told it. */
  readonly modelId: string | null;
}

const workerSchema = z.looseObject({
  id: z.string(),
  url: z.string(),
  is_healthy: z.boolean().default(false),
  load: z.number().default(0),
  model_id: z.string().nullish(),
});

const listSchema = z.looseObject({ workers: z.array(workerSchema) });
const acceptedSchema = z.looseObject({ worker_id: z.string() });

/** The servers in the answer of `GET /workers`. */
export function parseWorkers(answer: unknown): RouterWorker[] {
  const parsed = listSchema.safeParse(answer);
  if (!parsed.success) throw unexpected("GET /workers", parsed.error);
  return parsed.data.workers.map((worker) => ({
    id: worker.id,
    url: normalUrl(worker.url),
    isHealthy: worker.is_healthy,
    load: worker.load,
    modelId: worker.model_id ?? null,
  }));
}

/** The id in the answer of `POST /workers`. */
export function parseAccepted(answer: unknown): string {
  const parsed = acceptedSchema.safeParse(answer);
  if (!parsed.success) throw unexpected("POST /workers", parsed.error);
  return parsed.data.worker_id;
}

/**
 * The address without a slash at its end.
 *
 * @throws {ValidationError} When it is not an http address.
 */
export function normalUrl(url: string): string {
  const parsed = URL.parse(url);
  if (parsed === null || !/^https?:$/.test(parsed.protocol)) {
    throw new ValidationError(
      `"${url}" is not the address of a server, such as "http://127.0.0.1:30000"`,
    );
  }
  if (parsed.username || parsed.password) {
    throw new ValidationError("An address must not hold a password; give `apiKey`");
  }
  return canonicalUrl(url);
}

function unexpected(endpoint: string, cause: z.ZodError): ProtocolError {
  const what = cause.issues.map((issue) => `${issue.path.join(".")}: ${issue.message}`).join("; ");
  return new ProtocolError(`The router answered ${endpoint} unexpectedly: ${what}`, { cause });
}
