/** The adapters of one embedded server: what is loaded, what runs with it, what was once loaded. */
import { checkOptionNames, type OptionNames } from "../../internal/option_names.ts";
import { Semaphore } from "../../internal/semaphore.ts";
import type { ModelConfig } from "../model/config.ts";
import type { Tensor } from "../model/weights.ts";
import { readTensors } from "../load.ts";
import { readJson } from "../read_json.ts";
import { groupOf, type LoraMatrices, readLora, RefusedAdapter } from "./adapter.ts";

/** What an embedded server takes, as SGLang's flags of the same names say. */
export interface EmbeddedLoraOptions {
  /** `--max-lora-rank`. */
  readonly maxRank: number;
  /** `--lora-target-modules`. */
  readonly targetModules: readonly string[];
  /** `--max-loaded-loras`: the one that was longest unused goes when one more comes. */
  readonly maxLoaded?: number | undefined;
}

const NAMES = {
  maxRank: true,
  targetModules: true,
  maxLoaded: true,
} as const satisfies OptionNames<EmbeddedLoraOptions>;

/** An adapter that is loaded. */
interface Loaded {
  readonly name: string;
  readonly path: string;
  readonly matrices: LoraMatrices;
  uses: number;
  idle: PromiseWithResolvers<void>;
}

/** Where a load comes from. */
export interface AdapterSource {
  readonly name: string;
  /** Folder, or `__tensor__`. */
  readonly path: string;
  readonly config: Readonly<Record<string, unknown>>;
  readonly tensors: readonly Tensor[];
}

/** Loads and unloads adapters one at a time, as SGLang does. */
export class AdapterStore {
  readonly options: EmbeddedLoraOptions;
  readonly #model: ModelConfig;
  /** The least recently used first. */
  readonly #loaded = new Map<string, Loaded>();
  /** The path of every name that was ever loaded: a request for it loads it again. */
  readonly #known = new Map<string, string>();
  readonly #turn = new Semaphore(1);

  constructor(options: EmbeddedLoraOptions, model: ModelConfig) {
    checkOptionNames(options, NAMES, "the adapters of an embedded server");
    this.options = options;
    this.#model = model;
  }

  /** Name and path of each that is loaded. */
  get list(): readonly { readonly name: string; readonly path: string }[] {
    return [...this.#loaded.values()];
  }

  /** Loads one; throws {@linkcode RefusedAdapter}. */
  async load(open: () => Promise<AdapterSource> | AdapterSource): Promise<void> {
    using _turn = await this.#turn.acquire();
    await this.#load(open);
  }

  /** Unloads one when nothing runs with it; nobody else can load or unload until then. */
  async unload(name: string): Promise<void> {
    using _turn = await this.#turn.acquire();
    await this.#unload(name);
  }

  /** Takes an adapter for a request until disposed; throws {@linkcode RefusedAdapter}. */
  async acquire(name: string): Promise<{ matrices: LoraMatrices } & Disposable> {
    if (!this.#loaded.has(name)) await this.#loadAgain(name);
    const loaded = this.#loaded.get(name);
    if (loaded === undefined) {
      throw new RefusedAdapter(
        `The following requested LoRA adapters are not loaded: ${name}\n` +
          `Loaded adapters: o${keysOf(this.#loaded)}.`,
      );
    }
    this.#loaded.delete(name);
    this.#loaded.set(name, loaded);
    loaded.uses++;
    let isOver = false;
    return {
      matrices: loaded.matrices,
      [Symbol.dispose]() {
        if (isOver) return;
        isOver = true;
        if (--loaded.uses > 0) return;
        loaded.idle.resolve();
        loaded.idle = Promise.withResolvers();
      },
    };
  }

  async #loadAgain(name: string): Promise<void> {
    const path = this.#known.get(name);
    if (path === undefined) {
      throw new RefusedAdapter(
        `Got LoRA adapter that has never been loaded: ${name}\n` +
          `All loaded adapters: ${keysOf(this.#known)}.`,
      );
    }
    try {
      await this.load(() => {
        if (path === "__tensor__") throw new RefusedAdapter("its matrices are gone");
        return readPeftFolder(name, path);
      });
    } catch (error) {
      throw new RefusedAdapter(
        `Failed to implicitly load LoRA adapter ${name}: ${(error as Error).message}`,
      );
    }
  }

  async #load(open: () => Promise<AdapterSource> | AdapterSource): Promise<void> {
    const source = await open();
    const { name, path, config, tensors } = source;
    this.#check(name, config);
    const id = crypto.randomUUID();
    const matrices = readLora(id, config, tensors, this.#model);
    this.#loaded.set(name, { name, path, matrices, uses: 0, idle: Promise.withResolvers() });
    this.#known.set(name, path);
    const { maxLoaded } = this.options;
    while (maxLoaded !== undefined && this.#loaded.size > maxLoaded) {
      await this.#unload([...this.#loaded.keys()][0]!);
    }
  }

  #check(name: string, config: Readonly<Record<string, unknown>>): void {
    for (const key of ["target_modules", "r", "lora_alpha"]) {
      if (config[key] === undefined) throw new RefusedAdapter(`'${key}'`);
    }
    if (config.use_dora === true) {
      throw new RefusedAdapter(
        `Failed to load ${name} because LoRA serving currently doesn't support DoRA adapters`,
      );
    }
    if (this.#loaded.has(name)) {
      throw new RefusedAdapter(`Failed to load LoRA adapter ${name} because it is already loaded`);
    }
    const targets = new Set(this.options.targetModules.map(groupOf));
    const asked = config.target_modules as string | string[];
    const fits = Number(config.r) <= this.options.maxRank &&
      (typeof asked === "string" || targets.has("all") ||
        asked.every((module) => targets.has(groupOf(module))));
    if (fits) return;
    throw new RefusedAdapter(
      `LoRA adapter ${name} with rank ${config.r} is incompatible with the current ` +
        "LoRA memory pool configuration. Please ensure that the LoRA adapter's rank is within the " +
        "configured `--max-lora-rank` and that the target modules are included in " +
        "`--lora-target-modules`.",
    );
  }

  async #unload(name: string): Promise<void> {
    const loaded = this.#loaded.get(name);
    if (loaded === undefined) {
      throw new RefusedAdapter(
        `LoRA with name ${name} does not exist. Loaded LoRAs: o${keysOf(this.#loaded)}`,
      );
    }
    this.#loaded.delete(name);
    while (loaded.uses > 0) await loaded.idle.promise;
  }
}

/** Reads PEFT's folder; a folder that is none is refused as SGLang refuses it. */
export async function readPeftFolder(name: string, path: string): Promise<AdapterSource> {
  let config: Record<string, unknown>;
  try {
    config = await readJson(`${path}/adapter_config.json`);
  } catch (error) {
    throw new RefusedAdapter((error as Error).message);
  }
  const tensors: Tensor[] = [];
  try {
    for await (const tensor of readTensors(`${path}/adapter_model.safetensors`)) {
      tensors.push(tensor);
    }
  } catch (error) {
    throw new RefusedAdapter((error as Error).message);
  }
  return { name, path, config, tensors };
}

/** As Python shows the keys of a dict. */
function keysOf(map: ReadonlyMap<string, unknown>): string {
  return `dict_keys([${Array.from(map.keys(), (key) => `'${key}'`).join(", ")}])`;
}
