/**
 * Files that start a fleet on other machines: a script for Slurm, manifests for Kubernetes. Nothing
 * is started here.
 *
 * @module
 */
export { type KubernetesManifestOptions, kubernetesManifests } from "./kubernetes.ts";
export type { LaunchOptions } from "./options.ts";
export { slurmScript, type SlurmScriptOptions } from "./slurm.ts";
