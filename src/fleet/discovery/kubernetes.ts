import { z } from "zod";
import { HttpError, ProtocolError, StateError, ValidationError } from "../../errors.ts";
import { type Clock, systemClock } from "../../internal/clock.ts";
import { sleep } from "../../internal/deadline.ts";
import { readLines } from "../../internal/lines.ts";
import { namingPermission } from "../../internal/permission.ts";
import type { FleetEvent } from "../events.ts";
import { distinct, type ServerDiscovery, serverUrl } from "./discovery.ts";

/** Options of {@linkcode serversInKubernetes}. */
export interface KubernetesOptions {
  /** Name of the service whose endpoints are the servers. */
  readonly service: string;
  /** Namespace. Default that of the pod. */
  readonly namespace?: string | undefined;
  /** Name of the service's port; needed when it has several. */
  readonly portName?: string | undefined;
  /**
   * Only endpoints that are ready. Default `false`: a server that waits for the fleet's weights is
   * not ready, and has to be found to be refitted.
   */
  readonly readyOnly?: boolean | undefined;
  /** Address of the API server. Default that of the cluster that the pod is in. */
  readonly apiServer?: string | undefined;
  /** The token, read again for every call since it changes. Default the pod's. */
  readonly token?: (() => Promise<string>) | undefined;
  /** Certificate of the API server's authority, PEM. Default the pod's. */
  readonly caCert?: string | undefined;
  /** The time to use. */
  readonly clock?: Clock | undefined;
}

/** Where Kubernetes puts what a pod needs to call its API. */
const POD_FOLDER = "/var/run/secrets/kubernetes.io/serviceaccount";

/** The API server ends a watch after this; then it is begun again. */
const WATCH_S = 300;
const FIRST_PAUSE_MS = 500;
const LONGEST_PAUSE_MS = 30_000;

const slice = z.looseObject({
  metadata: z.looseObject({ name: z.string(), resourceVersion: z.string().optional() }),
  addressType: z.string().optional(),
  endpoints: z.array(z.looseObject({
    addresses: z.array(z.string()),
    conditions: z.looseObject({
      ready: z.boolean().nullish(),
      terminating: z.boolean().nullish(),
    }).nullish(),
  })).nullish(),
  ports: z.array(z.looseObject({ name: z.string().nullish(), port: z.number().nullish() }))
    .nullish(),
});
const sliceList = z.looseObject({
  metadata: z.looseObject({ resourceVersion: z.string() }),
  items: z.array(slice),
});
const watchEvent = z.looseObject({ type: z.string(), object: z.looseObject({}) });

type EndpointSlice = z.infer<typeof slice>;

/**
 * The servers behind a service of Kubernetes: its EndpointSlices are listed and watched over plain
 * HTTPS with the pod's token. Needs `--allow-net` of the API server and
 * `--allow-read=/var/run/secrets/kubernetes.io/serviceaccount`; the pod's account must be allowed to
 * `list` and `watch` `endpointslices` of `discovery.k8s.io`.
 */
export function serversInKubernetes(options: KubernetesOptions): ServerDiscovery {
  if (!/^[a-z0-9]([-a-z0-9]*[a-z0-9])?$/.test(options.service)) {
    throw new ValidationError(`service must be the name of a service, got "${options.service}"`);
  }
  const api = new KubernetesApi(options);
  const { clock = systemClock } = options;
  return {
    name: `Kubernetes service ${options.service}`,
    async servers({ signal } = {}) {
      const { items } = await api.list(signal);
      return api.addresses(items);
    },
    async *watch({ signal, onError }) {
      let before: string | undefined;
      for (let failures = 0; !signal.aborted;) {
        try {
          for await (const slices of api.watch(signal)) {
            failures = 0;
            const found = api.addresses(slices);
            const key = found.toSorted().join(" ");
            if (key !== before) yield found;
            before = key;
          }
        } catch (error) {
          if (signal.aborted) return;
          onError?.(error);
          const pauseMs = Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** failures++);
          await sleep(pauseMs, { signal, clock }).catch(() => {});
        }
      }
    },
  };
}

class KubernetesApi {
  readonly #options: KubernetesOptions;

  constructor(options: KubernetesOptions) {
    this.#options = options;
  }

  /** Every slice of the service, as it is now. */
  async list(signal: AbortSignal | undefined): Promise<z.infer<typeof sliceList>> {
    await using call = await this.#call({}, signal);
    const parsed = sliceList.safeParse(await call.response.json());
    if (parsed.success) return parsed.data;
    throw new ProtocolError("The API server's list of EndpointSlices is not as expected", {
      cause: parsed.error,
    });
  }

  /** The slices now and after every event; ends when the API server ends the watch. */
  async *watch(signal: AbortSignal): AsyncGenerator<readonly EndpointSlice[]> {
    const { items, metadata } = await this.list(signal);
    const slices = new Map(items.map((item) => [item.metadata.name, item]));
    yield [...slices.values()];
    await using call = await this.#call({
      watch: "true",
      allowWatchBookmarks: "true",
      timeoutSeconds: String(WATCH_S),
      resourceVersion: metadata.resourceVersion,
    }, signal);
    if (call.response.body === null) throw new ProtocolError("A watch has no body");
    for await (const line of readLines(call.response.body)) {
      if (line.trim() === "") continue;
      const { type, object } = parsedAs(watchEvent, line);
      // 410: what the watch began from is too old; the list is read again.
      if (type === "ERROR") throw new StateError(`The watch ended: ${JSON.stringify(object)}`);
      if (type === "BOOKMARK") continue;
      const changed = parsedAs(slice, JSON.stringify(object));
      if (type === "DELETED") slices.delete(changed.metadata.name);
      else slices.set(changed.metadata.name, changed);
      yield [...slices.values()];
    }
  }

  /** The addresses of servers in slices. */
  addresses(slices: readonly EndpointSlice[]): string[] {
    const { readyOnly = false, portName } = this.#options;
    return distinct(slices.flatMap(({ endpoints, ports, addressType }) => {
      const port = portName === undefined
        ? ports?.[0]
        : ports?.find(({ name }) => name === portName);
      const number = port?.port;
      if (typeof number !== "number" || addressType === "FQDN") return [];
      return (endpoints ?? [])
        .filter(({ conditions }) => conditions?.terminating !== true)
        .filter(({ conditions }) => !readyOnly || conditions?.ready !== false)
        .map(({ addresses: [address = ""] }) => serverUrl(address, number));
    }));
  }

  /** Sets a condition of the pod that has an address. */
  async setCondition(host: string, condition: PodCondition): Promise<void> {
    const query = { fieldSelector: `status.podIP=${host}` };
    await using found = await this.#ask({ group: "/api/v1", path: "pods", query });
    const parsed = podList.safeParse(await found.response.json());
    const pod = parsed.data?.items[0]?.metadata.name;
    if (pod === undefined) throw new StateError(`No pod has the address ${host}`);
    await using patched = await this.#ask({
      group: "/api/v1",
      path: `pods/${encodeURIComponent(pod)}/status`,
      query: {},
      patch: { status: { conditions: [condition] } },
    });
    await patched.response.body?.cancel();
  }

  #call(
    query: Readonly<Record<string, string>>,
    signal: AbortSignal | undefined,
  ): Promise<AsyncDisposable & { response: Response }> {
    return this.#ask({
      group: "/apis/discovery.k8s.io/v1",
      path: "endpointslices",
      query: { labelSelector: `kubernetes.io/service-name=${this.#options.service}`, ...query },
      signal,
    });
  }

  async #ask(
    { group, path, query, signal, patch }: {
      readonly group: string;
      readonly path: string;
      readonly query: Readonly<Record<string, string>>;
      readonly signal?: AbortSignal | undefined;
      readonly patch?: unknown;
    },
  ): Promise<AsyncDisposable & { response: Response }> {
    const namespace = this.#options.namespace ?? await inPod("namespace");
    const url = new URL(
      `${group}/namespaces/${encodeURIComponent(namespace)}/${path}`,
      this.#options.apiServer ?? "https://kubernetes.default.svc",
    );
    url.search = String(new URLSearchParams(query));
    const token = await (this.#options.token?.() ?? inPod("token"));
    const caCerts = url.protocol === "https:"
      ? [this.#options.caCert ?? await inPod("ca.crt")]
      : [];
    const client = Deno.createHttpClient({ caCerts });
    try {
      const response = await namingPermission(
        `--allow-net=${url.host}`,
        `connect to ${url.host}`,
        () =>
          fetch(url, {
            client,
            method: patch === undefined ? "GET" : "PATCH",
            body: patch === undefined ? null : JSON.stringify(patch),
            headers: {
              authorization: `Bearer ${token.trim()}`,
              accept: "application/json",
              ...(patch === undefined
                ? {}
                : { "content-type": "application/strategic-merge-patch+json" }),
            },
            ...(signal === undefined ? {} : { signal }),
          }),
      );
      if (!response.ok) throw await refused(response, path);
      return {
        response,
        async [Symbol.asyncDispose]() {
          await response.body?.cancel().catch(() => {});
          client.close();
        },
      };
    } catch (error) {
      client.close();
      throw error;
    }
  }
}

async function refused(response: Response, path: string): Promise<HttpError> {
  const { status } = response;
  const serverMessage = (await response.text()).slice(0, 500);
  const hint = status === 403 || status === 401
    ? `: the account must be allowed to use ${path}; "sglang-rl launch" prints a role that is`
    : "";
  return new HttpError(
    `The API server answered ${status} for ${path}${hint}: ${serverMessage}`,
    { status, endpoint: path, serverMessage },
  );
}

/** A condition of a pod. */
interface PodCondition {
  readonly type: string;
  readonly status: "True" | "False";
  readonly reason: string;
  readonly message: string;
}

const podList = z.looseObject({
  items: z.array(z.looseObject({ metadata: z.looseObject({ name: z.string() }) })),
});

/** Condition of a pod that says that its server holds the fleet's weights. */
export const refittedCondition = "sglang-rl.dev/refitted";

/**
 * Makes an `onEvent` that tells Kubernetes which servers hold the fleet's weights: it sets the
 * condition `sglang-rl.dev/refitted` of their pods, the readiness gate of the manifests that
 * `sglang-rl launch --kubernetes` prints. The pod's account must be allowed to list pods and to
 * patch `pods/status`.
 *
 * @param onError Told when the API server refuses; the fleet goes on.
 */
export function refittedGate(
  options: KubernetesOptions & { readonly onError?: ((error: unknown) => void) | undefined },
): (event: FleetEvent) => void {
  const api = new KubernetesApi(options);
  const told = new Map<string, boolean>();
  let before = Promise.resolve();
  return ({ url, kind, to, reason }) => {
    const isReady = to === "healthy" || to === "suspect";
    if (kind !== "state" || told.get(url) === isReady) return;
    told.set(url, isReady);
    const condition: PodCondition = {
      type: refittedCondition,
      status: isReady ? "True" : "False",
      reason: isReady ? "Refitted" : "NotRefitted",
      message: reason.slice(0, 500),
    };
    const host = new URL(url).hostname.replace(/^\[|\]$/g, "");
    // One after the other, so that the last word on a server is the last one said.
    before = before.then(() => api.setCondition(host, condition)).catch((error) => {
      told.delete(url);
      options.onError?.(error);
    });
  };
}

function parsedAs<T>(schema: z.ZodType<T>, line: string): T {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch (cause) {
    throw new ProtocolError("An event of a watch is not JSON", { cause });
  }
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  throw new ProtocolError("An event of a watch is not as expected", { cause: parsed.error });
}

async function inPod(file: string): Promise<string> {
  const path = `${POD_FOLDER}/${file}`;
  return await namingPermission(
    `--allow-read=${POD_FOLDER}`,
    `read ${path}`,
    () => Deno.readTextFile(path),
  );
}
