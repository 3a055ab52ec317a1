import type { Generation } from "../client/types.ts";

/**
 * The sample of an adapter: what a server calls its weights are those of the base model, and the
 * version of the policy is the adapter's name, which no other adapter ever had.
 */
export function madeBy(adapter: string | undefined, sample: Generation): Generation {
  if (adapter === undefined) return sample;
  return {
    ...sample,
    weightVersion: adapter,
    weightVersions: [{ version: adapter, start: 0, end: sample.ids.length }],
  };
}
