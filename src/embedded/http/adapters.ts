/** The LoRA endpoints. */
import { RefusedAdapter } from "../adapters/adapter.ts";
import { readPickledTensors } from "../adapters/pickled_tensors.ts";
import { type AdapterSource, readPeftFolder } from "../adapters/store.ts";
import type { EmbeddedState } from "../state.ts";
import { formError } from "./api_error.ts";
import { asObject } from "./generate_request.ts";
import { jsonBody } from "./json_body.ts";
import { fromBase64 } from "../../internal/text_of_bytes.ts";

/** `POST /load_lora_adapter`. */
export async function loadAdapter(request: Request, state: EmbeddedState): Promise<Response> {
  const fields = asObject(await jsonBody(request));
  const name = text(fields, "lora_name");
  const path = text(fields, "lora_path");
  return await answer(state, (store) => store.load(() => readPeftFolder(name, path)));
}

/** `POST /load_lora_adapter_from_tensors`. */
export async function loadAdapterFromTensors(
  request: Request,
  state: EmbeddedState,
): Promise<Response> {
  const fields = asObject(await jsonBody(request));
  const name = text(fields, "lora_name");
  const config = fields.config_dict;
  if (typeof config !== "object" || config === null) throw missing("config_dict");
  const payload = state.emulated.adapterRanks
    ? firstOf(fields.serialized_named_tensors)
    : text(fields, "serialized_tensors");
  return await answer(state, (store) =>
    store.load((): AdapterSource => ({
      name,
      path: "__tensor__",
      config: config as Record<string, unknown>,
      tensors: tensorsOf(payload, fields, state),
    })));
}

/** `POST /unload_lora_adapter`. */
export async function unloadAdapter(request: Request, state: EmbeddedState): Promise<Response> {
  const fields = asObject(await jsonBody(request));
  const name = text(fields, "lora_name");
  const isThere = state.adapters?.list.some((one) => one.name === name);
  return await answer(state, (store) => store.unload(name), isThere ?? false);
}

/** A payload that SGLang does not read, and sums that do not agree, end its scheduler. */
function tensorsOf(payload: string, fields: Record<string, unknown>, state: EmbeddedState) {
  try {
    if (fields.expected_checksums != null) throw new Error("adapter sync MISMATCH");
    return readPickledTensors(fromBase64(payload), fields.load_format);
  } catch (error) {
    state.crash((error as Error).message);
    throw new RefusedAdapter("crashed");
  }
}

async function answer(
  state: EmbeddedState,
  work: (store: NonNullable<EmbeddedState["adapters"]>) => Promise<void>,
  lists = true,
): Promise<Response> {
  const store = state.adapters;
  if (store === null) {
    return told({
      success: false,
      error_message: "LoRA is not enabled. Please set `--enable-lora` to enable LoRA.",
      loaded_adapters: null,
    });
  }
  let message = "";
  try {
    await work(store);
  } catch (error) {
    if (!(error instanceof RefusedAdapter)) throw error;
    message = error.message;
  }
  return told({
    success: message === "",
    error_message: message,
    loaded_adapters: lists
      ? Object.fromEntries(store.list.map(({ name, path }) => [name, path]))
      : null,
  });
}

function told(outcome: { readonly success: boolean; readonly [name: string]: unknown }): Response {
  return Response.json({ rid: null, http_worker_ipc: null, ...outcome }, {
    status: outcome.success ? 200 : 400,
  });
}

function text(fields: Record<string, unknown>, key: string): string {
  const value = fields[key];
  if (typeof value === "string") return value;
  throw missing(key);
}

function firstOf(value: unknown): string {
  if (Array.isArray(value) && typeof value[0] === "string") return value[0];
  throw missing("serialized_named_tensors");
}

function missing(key: string): Error {
  return formError(`Object missing required field \`${key}\``);
}
