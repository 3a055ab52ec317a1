import { HttpError } from "../../errors.ts";
import { type HttpAnswer, HttpPool } from "../../http/mod.ts";
import { type Clock, systemClock } from "../../internal/clock.ts";
import { withDeadline } from "../../internal/deadline.ts";
import { parseJson } from "../../internal/json.ts";
import { limitsOf } from "../../internal/limits.ts";
import { LineSplitter } from "../../internal/lines.ts";
import { namingPermission } from "../../internal/permission.ts";

/** How the API server of a cluster is reached. */
export interface KubernetesAccess {
  /** Address of the API server. Default that of the cluster that the pod is in. */
  readonly apiServer?: string | undefined;
  /** Namespace. Default that of the pod. */
  readonly namespace?: string | undefined;
  /** The token, read again for every call since it changes. Default the pod's. */
  readonly token?: (() => Promise<string>) | undefined;
  /** Certificate of the API server's authority, PEM. Default the pod's. */
  readonly caCert?: string | undefined;
  /** How much is read of its answers, and how long is waited. */
  readonly limits?: KubernetesLimits | undefined;
  /** The time to use. */
  readonly clock?: Clock | undefined;
}

/** How much is read of the answers of an API server, and how long is waited. */
export interface KubernetesLimits {
  /** Longest list, in bytes. Default 64 MiB; a thousand slices take one. */
  readonly answerBytes?: number | undefined;
  /** Longest event of a watch, in bytes. Default 16 MiB. */
  readonly eventBytes?: number | undefined;
  /** Longest wait for an answer, and for a watch to begin, in milliseconds. Default 30 000. */
  readonly callMs?: number | undefined;
}

const DEFAULT_LIMITS = { answerBytes: 64 * 2 ** 20, eventBytes: 16 * 2 ** 20, callMs: 30_000 };

/** One call within the namespace. */
export interface KubernetesCall {
  /** Path of the API group, such as `/api/v1`. */
  readonly group: string;
  /** Path within the namespace. */
  readonly path: string;
  readonly query: Readonly<Record<string, string>>;
  /** A strategic merge patch; without it the call is a GET. */
  readonly patch?: unknown;
  readonly signal?: AbortSignal | undefined;
}

/** Where Kubernetes puts what a pod needs to call its API. */
const POD_FOLDER = "/var/run/secrets/kubernetes.io/serviceaccount";

/** The API server ends a watch after this, and after this much more we do. */
const WATCH_S = 300;
const WATCH_GRACE_S = 30;
const ERROR_BYTES = 4096;

/** Calls of Kubernetes' API, as a pod makes them: over a connection of their own, past any proxy. */
export class KubernetesCalls {
  readonly #access: KubernetesAccess;
  readonly #limits: typeof DEFAULT_LIMITS;

  constructor(access: KubernetesAccess) {
    this.#access = access;
    this.#limits = limitsOf(access.limits, DEFAULT_LIMITS, "the API of Kubernetes");
  }

  /** The answer to a call. */
  async json(call: KubernetesCall): Promise<unknown> {
    return await this.#inTime(call, async (signal) => {
      using answer = await this.#send(call, signal);
      return parseJson(
        await answer.text("limits.answerBytes", this.#limits.answerBytes),
        call.path,
      );
    });
  }

  /** The lines of a watch; ends when the API server ends it, some minutes later at the latest. */
  async *watch(call: KubernetesCall & { readonly signal: AbortSignal }): AsyncGenerator<string> {
    const over = new AbortController();
    const query = {
      ...call.query,
      watch: "true",
      allowWatchBookmarks: "true",
      timeoutSeconds: String(WATCH_S),
    };
    const { clock = systemClock } = this.#access;
    const cancel = clock.schedule((WATCH_S + WATCH_GRACE_S) * 1000, () => over.abort());
    try {
      const signal = AbortSignal.any([call.signal, over.signal]);
      using answer = await this.#inTime(call, () => this.#send({ ...call, query }, signal));
      const lines = new LineSplitter({
        name: "limits.eventBytes",
        maxBytes: this.#limits.eventBytes,
      });
      for (;;) {
        const part = await answer.read();
        if (part === null) return;
        for (const line of lines.push(part)) if (line.trim() !== "") yield line;
      }
    } finally {
      // What still waits for the head ends too.
      over.abort();
      cancel();
    }
  }

  #inTime<T>(
    { path, signal }: KubernetesCall,
    work: (signal: AbortSignal) => Promise<T>,
  ): Promise<T> {
    const { clock, apiServer: peer } = this.#access;
    const phase = `ask for ${path}`;
    return withDeadline({ phase, timeoutMs: this.#limits.callMs, peer, signal, clock }, work);
  }

  async #send(
    { group, path, query, patch }: KubernetesCall,
    signal: AbortSignal,
  ): Promise<HttpAnswer> {
    const { apiServer = "https://kubernetes.default.svc", clock = systemClock } = this.#access;
    const namespace = this.#access.namespace ?? await inPod("namespace");
    const token = await (this.#access.token?.() ?? inPod("token"));
    const caCerts = apiServer.startsWith("https:")
      ? [this.#access.caCert ?? await inPod("ca.crt")]
      : [];
    const pool = new HttpPool({ url: apiServer, caCerts, maxIdle: 0, clock });
    const answer = await pool.send({
      method: patch === undefined ? "GET" : "PATCH",
      path: `${group}/namespaces/${encodeURIComponent(namespace)}/${path}?${new URLSearchParams(
        query,
      )}`,
      body: patch === undefined ? undefined : JSON.stringify(patch),
      contentType: "application/strategic-merge-patch+json",
      headers: { authorization: `Bearer ${token.trim()}`, accept: "application/json" },
    }, signal);
    const { status } = answer.head;
    if (status >= 200 && status < 300) return answer;
    using _ = answer;
    throw refused(status, await answer.beginning(ERROR_BYTES), path);
  }
}

function refused(status: number, said: string, path: string): HttpError {
  const serverMessage = said.slice(0, 500);
  const hint = status === 403 || status === 401
    ? `: the account must be allowed to use ${path}; "sglang-rl launch" prints a role that is`
    : "";
  return new HttpError(
    `The API server answered ${status} for ${path}${hint}: ${serverMessage}`,
    { status, endpoint: path, serverMessage },
  );
}

async function inPod(file: string): Promise<string> {
  const path = `${POD_FOLDER}/${file}`;
  return await namingPermission(
    `--allow-read=${POD_FOLDER}`,
    `read ${path}`,
    () => Deno.readTextFile(path),
  );
}
