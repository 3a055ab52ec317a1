/** The weight endpoints. */
import type { EmbeddedState } from "../state.ts";
import type { UpdateCommon, UpdateResult } from "../weight_updates.ts";
import { formError, valueError } from "./api_error.ts";
import { asObject } from "./generate_request.ts";
import { jsonBody } from "./json_body.ts";
import { toHex } from "../../internal/text_of_bytes.ts";

type Fields = Record<string, unknown>;

/** `POST /init_weights_update_group`. */
export async function initGroup(request: Request, state: EmbeddedState): Promise<Response> {
  const fields = asObject(await jsonBody(request));
  return answer(
    await state.updates.init({
      masterAddress: text(fields, "master_address"),
      masterPort: integer(fields, "master_port"),
      rank: integer(fields, "rank_offset"),
      worldSize: integer(fields, "world_size"),
      groupName: text(fields, "group_name", defaultGroup),
      backend: text(fields, "backend", "nccl"),
    }),
  );
}

/** `POST /destroy_weights_update_group`. */
export async function destroyGroup(request: Request, state: EmbeddedState): Promise<Response> {
  const fields = asObject(await jsonBody(request));
  return answer(await state.updates.destroy(text(fields, "group_name", defaultGroup)));
}

/** `POST /begin_weight_update`, from 0.5.22 on. */
export async function beginUpdate(request: Request, state: EmbeddedState): Promise<Response> {
  const { selector = "all" } = asObject(await jsonBody(request));
  if (selector !== "all" && selector !== "target" && selector !== "draft") {
    throw formError(
      "{'type': 'literal_error', 'loc': ('body', 'selector'), 'msg': \"Input should be 'target', " +
        `'draft' or 'all'", 'input': ${JSON.stringify(selector)}}`,
    );
  }
  return answer(await state.updates.begin());
}

/** `POST /end_weight_update`, from 0.5.22 on. */
export async function endUpdate(request: Request, state: EmbeddedState): Promise<Response> {
  asObject(await jsonBody(request));
  return answer(await state.updates.end());
}

/** `POST /update_weights_from_distributed`. */
export async function updateFromDistributed(
  request: Request,
  state: EmbeddedState,
): Promise<Response> {
  const fields = asObject(await jsonBody(request));
  const names = list(fields, "names", asText);
  const dtypes = list(fields, "dtypes", asText);
  const shapes = list(fields, "shapes", (shape, at) => asList(shape, at, asInteger));
  return answer(
    await state.updates.distributed({
      ...common(fields),
      groupName: text(fields, "group_name", defaultGroup),
      names,
      dtypes,
      shapes,
      bucket: fields.load_format === "flattened_bucket",
    }),
  );
}

/** `POST /update_weights_from_disk`. */
export async function updateFromDisk(request: Request, state: EmbeddedState): Promise<Response> {
  const fields = asObject(await jsonBody(request));
  const modelPath = text(fields, "model_path");
  const result = await state.updates.disk({ ...common(fields), modelPath });
  return answer(result, { num_paused_requests: 0 });
}

/** `POST /update_weight_version`. */
export async function updateVersion(request: Request, state: EmbeddedState): Promise<Response> {
  const fields = asObject(await jsonBody(request));
  const version = text(fields, "new_version");
  if (fields.abort_all_requests !== false) state.scheduler.abort(() => true);
  // From 0.5.22 the scheduler has it; before, it is a word of the HTTP server's alone.
  using _ = state.emulated.needsSession ? await state.updates.inTurn() : undefined;
  state.scheduler.weightVersion = version;
  const result = { success: true, message: `Weight version updated to ${version}` };
  return answer(result, { new_version: version });
}

/** `GET` or `POST /get_weights_by_name`: the first `truncate_size` rows. Qwen2 has none. */
export async function weightsByName(request: Request, state: EmbeddedState): Promise<Response> {
  const fields = await nameFields(request);
  const name = text(fields, "name");
  const { weights, config } = state.model;
  const shape = weights.shapeOf(name);
  const values = weights.valuesOf(name);
  if (config.modelType !== "llama" || shape === undefined || values === undefined) {
    throw valueError("Get parameter by name failed");
  }
  const size = Number(fields.truncate_size ?? 100);
  const width = shape.length === 1 ? 1 : values.length / shape[0]!;
  const rows = Array.from(
    { length: Math.min(size, shape[0]!) },
    (_, row) => [...values.subarray(row * width, (row + 1) * width)],
  );
  return Response.json(shape.length === 1 ? rows.flat() : rows);
}

/** `POST /weights_checker`: `snapshot`, and `checksum` over names and values (SHA-256). */
export async function weightsChecker(request: Request, state: EmbeddedState): Promise<Response> {
  const { action = "checksum" } = asObject(await jsonBody(request));
  if (action === "snapshot") {
    state.hasWeightSnapshot = true;
    return answer({ success: true, message: "Success." });
  }
  if (action !== "checksum" && action !== "compare") {
    return answer({ success: false, message: `Unsupported action='${action}'` });
  }
  if (action === "compare" && !state.hasWeightSnapshot) {
    return answer({ success: false, message: "" });
  }
  if (action === "compare" || !state.emulated.hasChecksums) {
    return answer({ success: false, message: NO_DRIVER });
  }
  const checksums: Record<string, string> = {};
  for (const name of state.model.weights.names) {
    const values = state.model.weights.valuesOf(name)!;
    checksums[name] = (await sha256(bytesOf(values))).slice(0, 16);
  }
  const overall = await sha256(new TextEncoder().encode(JSON.stringify(checksums)));
  return Response.json({
    success: true,
    message: "Success.",
    ranks: [{ checksums, per_gpu_checksum: overall, parallelism_info: [placement] }],
    per_engine_checksum: overall,
  });
}

/** What SGLang on a CPU says where it wants a GPU. */
const NO_DRIVER = "Found no NVIDIA driver on your system. Please check that you have an NVIDIA " +
  "GPU and installed a driver from http://www.nvidia.com/Download/index.aspx";

const defaultGroup = "weight_update_group";

const placement = {
  role: "target",
  tp_rank: 0,
  tp_size: 1,
  dp_rank: 0,
  dp_size: 1,
  pp_rank: 0,
  pp_size: 1,
  rank: 0,
  size: 1,
};

function answer(result: UpdateResult, more: Fields = {}): Response {
  return Response.json({ ...result, ...more }, { status: result.success ? 200 : 400 });
}

function common(fields: Fields): UpdateCommon {
  const { weight_version: version = null } = fields;
  return {
    flushCache: boolean(fields, "flush_cache", true),
    abortAll: boolean(fields, "abort_all_requests", false),
    weightVersion: version === null ? null : asText(version, ["weight_version"]),
  };
}

/** Where a value stands in a body. */
type Place = readonly (string | number)[];

function text(fields: Fields, key: string, fallback?: string): string {
  return asText(given(fields, key, fallback), [key]);
}

function integer(fields: Fields, key: string): number {
  return asInteger(given(fields, key), [key]);
}

function boolean(fields: Fields, key: string, fallback: boolean): boolean {
  const value = given(fields, key, fallback);
  if (typeof value === "boolean") return value;
  const word = typeof value === "string" ? value.toLowerCase() : value;
  if ([1, "1", "true", "t", "yes", "y", "on"].includes(word as string)) return true;
  if ([0, "0", "false", "f", "no", "n", "off"].includes(word as string)) return false;
  const isWord = typeof word === "string" || typeof word === "number";
  throw refused(isWord ? "bool_parsing" : "bool_type", [key], "Input should be a valid boolean");
}

function list<T>(fields: Fields, key: string, item: (value: unknown, at: Place) => T): T[] {
  return asList(given(fields, key), [key], item);
}

/** The value of a field; one that is left out has its default, or is missing. */
function given(fields: Fields, key: string, fallback?: unknown): unknown {
  const value = key in fields ? fields[key] : fallback;
  if (value === undefined) throw refused("missing", [key], "Field required");
  return value;
}

function asText(value: unknown, at: Place): string {
  if (typeof value === "string") return value;
  throw refused("string_type", at, "Input should be a valid string");
}

/** As pydantic reads an integer: also from a text of digits, or a number without a fraction. */
function asInteger(value: unknown, at: Place): number {
  if (typeof value === "string") {
    if (/^\s*[+-]?\d+\s*$/.test(value)) return Number(value);
    throw refused("int_parsing", at, "Input should be a valid integer");
  }
  if (typeof value !== "number") throw refused("int_type", at, "Input should be a valid integer");
  if (Number.isInteger(value)) return value;
  throw refused("int_from_float", at, "Input should be a valid integer");
}

function asList<T>(value: unknown, at: Place, item: (value: unknown, at: Place) => T): T[] {
  if (!Array.isArray(value)) throw refused("list_type", at, "Input should be a valid list");
  return value.map((one, index) => item(one, [...at, index]));
}

function refused(type: string, at: Place, message: string): Error {
  const place = ["body", ...at].map((part) => typeof part === "number" ? part : `'${part}'`);
  return formError(`{'type': '${type}', 'loc': (${place.join(", ")}), 'msg': '${message}'}`);
}

async function nameFields(request: Request): Promise<Fields> {
  const { searchParams } = new URL(request.url);
  if (searchParams.has("name")) return Object.fromEntries(searchParams);
  return asObject(await jsonBody(request));
}

function bytesOf(values: Float32Array): Uint8Array<ArrayBuffer> {
  return new Uint8Array(values.buffer, values.byteOffset, values.byteLength).slice();
}

async function sha256(bytes: Uint8Array<ArrayBuffer>): Promise<string> {
  return toHex(new Uint8Array(await crypto.subtle.digest("SHA-256", bytes)));
}
