import { ValidationError } from "../errors.ts";
import { LLMWrapperBase } from "../policy/wrapper/base.ts";
import type { PolicySource } from "./options.ts";
import type { CollectorPolicy } from "./policy.ts";
import { type PartialRollouts, WrapperPolicy } from "./wrapper_policy.ts";

/** Makes the policy when a factory is given, and tells it about its collector. */
export function bindPolicy(
  source: PolicySource,
  options: { collector: object; partialRollouts: PartialRollouts },
): CollectorPolicy {
  const made = typeof source === "function" ? source() : source;
  const policy = made instanceof LLMWrapperBase ? new WrapperPolicy(made, options) : made;
  if (typeof policy?.call !== "function") {
    throw new ValidationError(
      "Cannot make an LLMCollector: the policy has no call(); give an SGLangWrapper or an object " +
        "with call(request, { signal })",
    );
  }
  policy.registerCollector?.(options.collector);
  return policy;
}
