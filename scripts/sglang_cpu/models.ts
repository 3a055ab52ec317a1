import { join } from "node:path";
import type { SetupContext } from "./environment.ts";
import { type TinyModel, tinyModels } from "./home.ts";
import { lastWords, run } from "./run.ts";
import { SetupError } from "./setup_error.ts";
import { exists } from "./stamp.ts";

const maker = new URL("make_tiny_model.py", import.meta.url).pathname;

const makerArgs: Record<TinyModel, readonly string[]> = {
  tiny: ["--seed", "0"],
  tiny1: ["--seed", "1"],
  llama0: ["--seed", "0", "--arch", "llama"],
  llama1: ["--seed", "1", "--arch", "llama"],
  moe: ["--seed", "0", "--arch", "qwen3_moe"],
};

/** Makes the tiny checkpoints that are not there, or not whole. `python` has transformers. */
export async function ensureModels(python: string, context: SetupContext): Promise<void> {
  for (const model of tinyModels) {
    const folder = join(context.home, model);
    if (await isWhole(folder)) continue;
    context.say(`checkpoint ${model}: making it`);
    const partial = `${folder}.partial`;
    if (await exists(partial)) await Deno.remove(partial, { recursive: true });
    const result = await run([python, maker, partial, ...makerArgs[model]], {
      env: { HF_HUB_OFFLINE: "1", CUDA_VISIBLE_DEVICES: "", PYTHONPATH: null },
      signal: context.signal,
    });
    if (!result.success || !await isWhole(partial)) {
      throw new SetupError(`The checkpoint ${model} could not be made: ${lastWords(result)}`);
    }
    if (await exists(folder)) await Deno.remove(folder, { recursive: true });
    await Deno.rename(partial, folder);
  }
}

/** Whether a checkpoint has its files and its weights to the last byte. */
export async function isWhole(folder: string): Promise<boolean> {
  try {
    for (const name of ["config.json", "tokenizer.json", "tokenizer_config.json"]) {
      JSON.parse(await Deno.readTextFile(join(folder, name)));
    }
    const bytes = await Deno.readFile(join(folder, "model.safetensors"));
    const headerBytes = Number(new DataView(bytes.buffer).getBigUint64(0, true));
    const header: Record<string, { data_offsets?: [number, number] }> = JSON.parse(
      new TextDecoder().decode(bytes.subarray(8, 8 + headerBytes)),
    );
    const ends = Object.values(header).map((tensor) => tensor.data_offsets?.[1] ?? 0);
    return 8 + headerBytes + Math.max(...ends) === bytes.length;
  } catch {
    return false;
  }
}
