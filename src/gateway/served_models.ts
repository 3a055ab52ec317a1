import type { AnySGLangWrapper } from "../policy/wrapper/sglang_wrapper.ts";
import { GatewayRefusal } from "./fault.ts";
import { GatewayModel } from "./model.ts";

/** The models that a gateway serves, by name; a single one without a name answers to all names. */
export class ServedModels {
  readonly #models = new Map<string, GatewayModel>();
  readonly #only: GatewayModel | null;

  constructor({ models, wrapper, defaultMaxTokens }: {
    readonly models: Readonly<Record<string, AnySGLangWrapper>> | undefined;
    /** The one to serve where no names are given. */
    readonly wrapper: AnySGLangWrapper;
    readonly defaultMaxTokens: number;
  }) {
    for (const [name, one] of Object.entries(models ?? { default: wrapper })) {
      this.#models.set(name, new GatewayModel(name, one, { defaultMaxTokens }));
    }
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
  listed(part: string): unknown {
    const list = [...this.#models.keys()].map((id) => ({
      id,
      object: "model",
      created: 0,
      owned_by: "sglang-rl",
    }));
    if (part === "") return { object: "list", data: list };
    const { name: id } = this.named(decoded(part));
    return list.find((one) => one.id === id);
  }
}

/** A part of a path as text; what is none is no name either. */
function decoded(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}
