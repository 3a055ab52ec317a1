import { ValidationError } from "../errors.ts";
import type { CollectorPolicy } from "./policy.ts";
import type { PolicySource } from "./options.ts";

/** Makes the policy when a factory is given, and tells it about its collector. */
export function bindPolicy(source: PolicySource, collector: object): CollectorPolicy {
  const policy = typeof source === "function" ? source() : source;
  if (typeof policy?.call !== "function") {
    throw new ValidationError(
      "Cannot make an LLMCollector: the policy has no call(); give an SGLangWrapper or an object " +
        "with call(request, { signal })",
    );
  }
  policy.registerCollector?.(collector);
  return policy;
}
