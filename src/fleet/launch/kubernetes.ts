import { checkOptionNames, type OptionNames } from "../../internal/option_names.ts";
import { stringify } from "yaml";
import { refittedCondition } from "../discovery/kubernetes.ts";
import {
  LAUNCH_OPTION_NAMES,
  type LaunchOptions,
  requireWord,
  type ResolvedLaunch,
  resolveLaunch,
  serverEnvironment,
  withKeysOfEnvironment,
} from "./options.ts";

/** Options of {@linkcode kubernetesManifests}. */
export interface KubernetesManifestOptions extends LaunchOptions {
  /** Image with SGLang. Default `"lmsysorg/sglang:v0.5.16"`. */
  readonly image?: string | undefined;
  /** Image with the router; `null` for no router. Default `image`. */
  readonly routerImage?: string | null | undefined;
  /** Claim of a volume with models, mounted at `/models`. Default none. */
  readonly modelsClaim?: string | undefined;
  /**
   * Secret with the keys `api-key` and `admin-api-key`, which the servers get as variables. Default
   * none.
   */
  readonly keysSecret?: string | undefined;
}

const OPTION_NAMES = {
  ...LAUNCH_OPTION_NAMES,
  image: true,
  routerImage: true,
  modelsClaim: true,
  keysSecret: true,
} as const satisfies OptionNames<KubernetesManifestOptions>;

type Manifest = Readonly<Record<string, unknown>>;

/**
 * Manifests of a fleet as YAML: a Deployment of servers (a LeaderWorkerSet where a server has several
 * machines), a headless Service by which {@linkcode serversInKubernetes} finds them, the router with
 * its Service, and an account that may do what discovery and the gate need. A server's pod is ready
 * only when the condition `sglang-rl.dev/refitted` is true, which {@linkcode refittedGate} sets.
 *
 * @throws {ValidationError} An option is wrong.
 */
export function kubernetesManifests(options: KubernetesManifestOptions): string {
  return manifestsOf(options).map((manifest) => stringify(manifest, { lineWidth: 0 })).join(
    "---\n",
  );
}

/** The same as objects. */
export function manifestsOf(options: KubernetesManifestOptions): Manifest[] {
  checkOptionNames(options, OPTION_NAMES, "kubernetesManifests()");
  const launch = resolveLaunch(options);
  const { name, port, nnodes } = launch;
  const { image, routerImage: ownImage, modelsClaim, keysSecret } = options;
  const words = { image, routerImage: ownImage, modelsClaim, keysSecret };
  for (const [option, value] of Object.entries(words)) requireWord(option, value);
  const labels = { "app.kubernetes.io/name": name, "app.kubernetes.io/component": "server" };
  const routerImage = options.routerImage === undefined ? imageOf(options) : options.routerImage;
  // With several machines only the first of each server answers.
  const leader = nnodes === 1 ? {} : { "leaderworkerset.sigs.k8s.io/worker-index": "0" };
  return [
    ...account(name),
    nnodes === 1 ? deployment(launch, labels, options) : leaderWorkerSet(launch, labels, options),
    {
      apiVersion: "v1",
      kind: "Service",
      metadata: { name: `${name}-servers`, labels },
      spec: {
        clusterIP: "None",
        // A server that waits for its weights has to be found to be refitted.
        publishNotReadyAddresses: true,
        selector: { ...labels, ...leader },
        ports: [{ name: "http", port, targetPort: port }],
      },
    },
    ...(routerImage === null ? [] : router(launch, { ...labels, ...leader }, routerImage)),
  ];
}

function imageOf({ image = "lmsysorg/sglang:v0.5.16" }: KubernetesManifestOptions): string {
  return image;
}

function account(name: string): Manifest[] {
  const metadata = { name };
  return [
    { apiVersion: "v1", kind: "ServiceAccount", metadata },
    {
      apiVersion: "rbac.authorization.k8s.io/v1",
      kind: "Role",
      metadata,
      rules: [
        { apiGroups: [""], resources: ["pods"], verbs: ["get", "list", "watch"] },
        { apiGroups: [""], resources: ["pods/status"], verbs: ["patch"] },
        {
          apiGroups: ["discovery.k8s.io"],
          resources: ["endpointslices"],
          verbs: ["get", "list", "watch"],
        },
      ],
    },
    {
      apiVersion: "rbac.authorization.k8s.io/v1",
      kind: "RoleBinding",
      metadata,
      roleRef: { apiGroup: "rbac.authorization.k8s.io", kind: "Role", name },
      subjects: [{ kind: "ServiceAccount", name }],
    },
  ];
}

function deployment(
  launch: ResolvedLaunch,
  labels: Manifest,
  options: KubernetesManifestOptions,
): Manifest {
  const { name, replicas } = launch;
  return {
    apiVersion: "apps/v1",
    kind: "Deployment",
    metadata: { name: `${name}-servers`, labels },
    spec: {
      replicas,
      selector: { matchLabels: labels },
      strategy: { type: "RollingUpdate", rollingUpdate: { maxSurge: 0, maxUnavailable: 1 } },
      template: { metadata: { labels }, spec: podSpec(launch, options, []) },
    },
  };
}

function leaderWorkerSet(
  launch: ResolvedLaunch,
  labels: Manifest,
  options: KubernetesManifestOptions,
): Manifest {
  const { name, replicas, nnodes, port } = launch;
  const several = [
    "--nnodes",
    String(nnodes),
    "--node-rank",
    "$(LWS_WORKER_INDEX)",
    "--dist-init-addr",
    `$(LWS_LEADER_ADDRESS):${port + 10_000}`,
  ];
  const template = (isLeader: boolean) => ({
    metadata: { labels },
    spec: podSpec(launch, options, several, isLeader),
  });
  return {
    apiVersion: "leaderworkerset.x-k8s.io/v1",
    kind: "LeaderWorkerSet",
    metadata: { name: `${name}-servers`, labels },
    spec: {
      replicas,
      leaderWorkerTemplate: {
        size: nnodes,
        // A server with a machine less is no server: all of its pods begin again.
        restartPolicy: "RecreateGroupOnPodRestart",
        leaderTemplate: template(true),
        workerTemplate: template(false),
      },
    },
  };
}

function podSpec(
  launch: ResolvedLaunch,
  options: KubernetesManifestOptions,
  further: readonly string[],
  answers = true,
): Manifest {
  const { model, port, tpSize, gpusPerNode, args, name } = launch;
  const { modelsClaim, keysSecret } = options;
  const key = (variable: string, entry: string) => ({
    name: variable,
    valueFrom: { secretKeyRef: { name: keysSecret, key: entry } },
  });
  const keys = keysSecret === undefined
    ? []
    : [key("SGLANG_API_KEY", "api-key"), key("SGLANG_ADMIN_API_KEY", "admin-api-key")];
  const probe = { httpGet: { path: "/health", port: "http" }, timeoutSeconds: 5 };
  const volumes = [
    { name: "shm", emptyDir: { medium: "Memory" } },
    ...(modelsClaim === undefined
      ? []
      : [{ name: "models", persistentVolumeClaim: { claimName: modelsClaim } }]),
  ];
  const mounts = [
    { name: "shm", mountPath: "/dev/shm" },
    ...(modelsClaim === undefined ? [] : [{ name: "models", mountPath: "/models" }]),
  ];
  return {
    ...(answers ? { readinessGates: [{ conditionType: refittedCondition }] } : {}),
    serviceAccountName: name,
    terminationGracePeriodSeconds: 30,
    containers: [{
      name: "sglang",
      image: imageOf(options),
      command: keysSecret === undefined
        ? ["python3", "-m", "sglang.launch_server"]
        : ["python3", "-c", withKeysOfEnvironment, "sglang.launch_server"],
      args: [
        "--model-path",
        model,
        "--host",
        "0.0.0.0",
        "--port",
        String(port),
        "--tp-size",
        String(tpSize),
        ...further,
        ...args,
      ],
      env: [
        ...Object.entries(serverEnvironment).map(([variable, value]) => ({
          name: variable,
          value,
        })),
        ...keys,
      ],
      ports: [{ name: "http", containerPort: port }],
      ...(gpusPerNode === 0 ? {} : { resources: { limits: { "nvidia.com/gpu": gpusPerNode } } }),
      ...(answers
        ? {
          // Loading a model may take half an hour; after that three missed probes restart it.
          startupProbe: { ...probe, periodSeconds: 10, failureThreshold: 180 },
          livenessProbe: { ...probe, periodSeconds: 10, failureThreshold: 3 },
          readinessProbe: { ...probe, periodSeconds: 5, failureThreshold: 3 },
        }
        : {}),
      volumeMounts: mounts,
    }],
    volumes,
  };
}

function router(launch: ResolvedLaunch, selector: Manifest, image: string): Manifest[] {
  const { name, port } = launch;
  const labels = { "app.kubernetes.io/name": name, "app.kubernetes.io/component": "router" };
  const pairs = Object.entries(selector).map(([key, value]) => `${key}=${value}`);
  return [
    {
      apiVersion: "apps/v1",
      kind: "Deployment",
      metadata: { name: `${name}-router`, labels },
      spec: {
        replicas: 1,
        selector: { matchLabels: labels },
        template: {
          metadata: { labels },
          spec: {
            serviceAccountName: name,
            containers: [{
              name: "router",
              image,
              command: ["python3", "-m", "sglang_router.launch_router"],
              args: [
                "--host",
                "0.0.0.0",
                "--port",
                "30000",
                "--service-discovery",
                "--service-discovery-port",
                String(port),
                "--service-discovery-namespace",
                "$(NAMESPACE)",
                "--disable-circuit-breaker",
                "--selector",
                ...pairs,
              ],
              env: [{
                name: "NAMESPACE",
                valueFrom: { fieldRef: { fieldPath: "metadata.namespace" } },
              }],
              ports: [{ name: "http", containerPort: 30_000 }],
              readinessProbe: { httpGet: { path: "/readiness", port: "http" }, periodSeconds: 5 },
            }],
          },
        },
      },
    },
    {
      apiVersion: "v1",
      kind: "Service",
      metadata: { name: `${name}-router`, labels },
      spec: { selector: labels, ports: [{ name: "http", port: 30_000, targetPort: "http" }] },
    },
  ];
}
