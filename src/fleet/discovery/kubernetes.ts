import { checkOptionNames, type OptionNames } from "../../internal/option_names.ts";
import { z } from "zod";
import { ProtocolError, StateError, ValidationError } from "../../errors.ts";
import { systemClock } from "../../internal/clock.ts";
import { sleep } from "../../internal/deadline.ts";
import type { FleetEvent } from "../events.ts";
import { parseJson } from "../../internal/json.ts";
import { distinct, type ServerDiscovery, serverUrl } from "./discovery.ts";
import { type KubernetesAccess, KubernetesCalls } from "./kubernetes_calls.ts";

/** Options of {@linkcode serversInKubernetes}. */
export interface KubernetesOptions extends KubernetesAccess {
  /** Name of the service whose endpoints are the servers. */
  readonly service: string;
  /** Name of the service's port; needed when it has several. */
  readonly portName?: string | undefined;
  /**
   * Only endpoints that are ready. Default `false`: a server that waits for the fleet's weights is
   * not ready, and has to be found to be refitted.
   */
  readonly readyOnly?: boolean | undefined;
}

const NAMES = {
  apiServer: true,
  namespace: true,
  token: true,
  caCert: true,
  limits: true,
  clock: true,
  service: true,
  portName: true,
  readyOnly: true,
} as const satisfies OptionNames<KubernetesOptions>;

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
    targetRef: z.looseObject({ uid: z.string().nullish(), name: z.string().nullish() }).nullish(),
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
  checkOptionNames(options, NAMES, "serversInKubernetes()");
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
          // A server that ends watches at once is not asked as fast as it can.
          await sleep(FIRST_PAUSE_MS, { signal, clock }).catch(() => {});
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
  readonly #calls: KubernetesCalls;

  constructor(options: KubernetesOptions) {
    this.#options = options;
    this.#calls = new KubernetesCalls(options);
  }

  /** Every slice of the service, as it is now. */
  async list(signal: AbortSignal | undefined): Promise<z.infer<typeof sliceList>> {
    const parsed = sliceList.safeParse(await this.#calls.json({ ...this.#slices(), signal }));
    if (parsed.success) return parsed.data;
    throw new ProtocolError("The API server's list of EndpointSlices is not as expected", {
      cause: parsed.error,
    });
  }

  /** The slices now and after every event; ends when the API server ends the watch. */
  async *watch(signal: AbortSignal): AsyncGenerator<readonly EndpointSlice[]> {
    const { items, metadata: { resourceVersion } } = await this.list(signal);
    const slices = new Map(items.map((item) => [item.metadata.name, item]));
    yield [...slices.values()];
    for await (const line of this.#calls.watch({ ...this.#slices({ resourceVersion }), signal })) {
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
    // Where a service has both kinds of addresses, every pod is in a slice of each: IPv4 goes first.
    const inOrder = slices.toSorted((a, b) => rankOf(a) - rankOf(b));
    const kindOf = new Map<string, string | undefined>();
    return distinct(inOrder.flatMap(({ endpoints, ports, addressType }) => {
      const port = portName === undefined
        ? ports?.[0]
        : ports?.find(({ name }) => name === portName);
      const number = port?.port;
      if (typeof number !== "number" || addressType === "FQDN") return [];
      return (endpoints ?? [])
        .filter(({ conditions }) => conditions?.terminating !== true)
        .filter(({ conditions }) => !readyOnly || conditions?.ready !== false)
        .filter(({ targetRef }) => {
          const pod = targetRef?.uid ?? targetRef?.name;
          if (pod == null) return true;
          const key = `${number} ${pod}`;
          if (!kindOf.has(key)) kindOf.set(key, addressType);
          return kindOf.get(key) === addressType;
        })
        .flatMap(({ addresses: [address] }) => address ? [serverUrl(address, number)] : []);
    }));
  }

  /** Sets a condition of the pod that has an address. */
  async setCondition(host: string, condition: PodCondition): Promise<void> {
    const query = { fieldSelector: `status.podIP=${host}` };
    const found = await this.#calls.json({ group: "/api/v1", path: "pods", query });
    const pod = podList.safeParse(found).data?.items[0]?.metadata.name;
    if (pod === undefined) throw new StateError(`No pod has the address ${host}`);
    await this.#calls.json({
      group: "/api/v1",
      path: `pods/${encodeURIComponent(pod)}/status`,
      query: {},
      patch: { status: { conditions: [condition] } },
    });
  }

  #slices(query: Readonly<Record<string, string>> = {}) {
    const labelSelector = `kubernetes.io/service-name=${this.#options.service}`;
    return {
      group: "/apis/discovery.k8s.io/v1",
      path: "endpointslices",
      query: { labelSelector, ...query },
    };
  }
}

function rankOf({ addressType }: EndpointSlice): number {
  return addressType === "IPv6" ? 1 : 0;
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
  const parsed = schema.safeParse(parseJson(line, "A watch of the API server"));
  if (parsed.success) return parsed.data;
  throw new ProtocolError("An event of a watch is not as expected", { cause: parsed.error });
}
