import { ValidationError } from "../errors.ts";
import { isRecord } from "../internal/json.ts";
import { type AnySGLangWrapper, SGLangWrapper } from "../policy/wrapper/sglang_wrapper.ts";
import { GatewayRefusal } from "./fault.ts";
import { GatewayModel } from "./model.ts";
import type { ServedModel } from "./options.ts";

/** The models that a gateway serves, by name; a single one without a name answers to all names. */
export class ServedModels {
  readonly #models = new Map<string, GatewayModel>();
  readonly #only: GatewayModel | null;

  constructor({ models, wrapper, defaultMaxTokens }: {
    readonly models: Readonly<Record<string, ServedModel>> | undefined;
    /** The one to serve where no names are given, and the base of adapters. */
    readonly wrapper: AnySGLangWrapper;
    readonly defaultMaxTokens: number;
  }) {
    for (const [name, one] of Object.entries(models ?? { default: wrapper })) {
      const served = wrapperOf(name, one, wrapper);
      this.#models.set(name, new GatewayModel(name, served, { defaultMaxTokens }));
    }
    if (this.#models.size === 0) throw new ValidationError("models must hold at least one model");
    this.#only = models === undefined ? this.#models.get("default")! : null;
  }

  /**
   * The one that a request names.
   *
   * @throws {GatewayRefusal} There is none of this name.
   */
  named(name: string): GatewayModel {
    const model = this.#only ?? this.#models.get(name);
    if (model !== undefined) return model;
    const known = [...this.#models.keys()].join(", ");
    throw new GatewayRefusal(`There is no model "${name.slice(0, 200)}"; there are ${known}`, {
      status: 404,
      reason: "model_not_found",
      param: "model",
    });
  }

  /** What `/v1/models` answers, or what it answers for the part of the path that names one. */
  async listed(part: string): Promise<unknown> {
    if (part !== "") return await entryOf(this.named(decoded(part)));
    return { object: "list", data: await Promise.all([...this.#models.values()].map(entryOf)) };
  }
}

function wrapperOf(name: string, served: ServedModel, base: AnySGLangWrapper): AnySGLangWrapper {
  if (served instanceof SGLangWrapper) return served;
  const lora = isRecord(served) ? served.lora : undefined;
  if (typeof lora !== "string" || lora === "") {
    throw new ValidationError(`models["${name}"] must be a wrapper, or { lora: "its name" }`);
  }
  const requestOptions = { ...base.options.requestOptions, lora };
  return base.getNewVersion({ requestOptions });
}

/** A model as OpenAI lists it; of an adapter also which version answers now, as SGLang has it. */
async function entryOf(model: GatewayModel): Promise<unknown> {
  const version = await model.adapterVersion();
  return {
    id: model.name,
    object: "model",
    created: 0,
    owned_by: "sglang-rl",
    ...(version === null ? {} : { root: version }),
  };
}

/** A part of a path as text; what is none is no name either. */
function decoded(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}
