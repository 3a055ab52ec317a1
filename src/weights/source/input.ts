import { StateError, ValidationError } from "../../errors.ts";
import type { WeightStrategy } from "../options.ts";
import { isWeightSource, type WeightSource } from "./source.ts";
import { type StateDict, stateDict, type TensorDict, tensorDict } from "./state_dict.ts";

/** Something with weights, as torch's modules are. */
export interface StatefulModel {
  /** Its weights by name, read again for every sync. */
  stateDict(): StateDict;
}

/** What weights can be given as. */
export type ModelInput = WeightSource | StateDict | TensorDict | StatefulModel;

/** The registered model. */
export class ModelSlot {
  #model: ModelInput | WeakRef<ModelInput & WeakKey> | undefined;

  /** Registers a model; a `WeakRef` does not keep it alive. */
  set(model: ModelInput | WeakRef<ModelInput & WeakKey>): void {
    if (typeof model !== "object" || model === null) {
      throw new ValidationError(
        `registerModel() takes a source such as safetensors(folder), a state dict or nested ` +
          `weights, got ${model === null ? "null" : typeof model}`,
      );
    }
    this.#model = model;
  }

  /** The model; throws when there is none, or when it was collected. */
  get(): ModelInput {
    const model = this.#model;
    if (model === undefined) {
      throw new StateError("No model registered: call registerModel(), or give the weights");
    }
    if (!(model instanceof WeakRef)) return model;
    const target = model.deref();
    if (target === undefined) {
      throw new StateError(
        "Model reference is no longer valid: the registered model was collected",
      );
    }
    return target;
  }
}

/** Reads what was given, plain objects by the strategy. */
export function toSource(input: ModelInput, strategy: WeightStrategy): WeightSource {
  if (isWeightSource(input)) return input;
  if (isStateful(input)) return stateDict(input.stateDict());
  return strategy === "state_dict"
    ? stateDict(input as StateDict)
    : tensorDict(input as TensorDict);
}

function isStateful(input: ModelInput): input is StatefulModel {
  return "stateDict" in input && typeof input.stateDict === "function";
}
