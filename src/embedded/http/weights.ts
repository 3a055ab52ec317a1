/** The weight endpoints. */
import type { EmbeddedState } from "../state.ts";
import type { UpdateCommon, UpdateResult } from "../weight_updates.ts";
import { formError, valueError } from "./api_error.ts";
import { asObject } from "./generate_request.ts";
import { jsonBody } from "./json_body.ts";

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
  return answer(state.updates.end());
}

/** `POST /update_weights_from_distributed`. */
export async function updateFromDistributed(
  request: Request,
  state: EmbeddedState,
): Promise<Response> {
  const fields = asObject(await jsonBody(request));
  const { names, dtypes, shapes } = fields;
  if (!isTexts(names) || !isTexts(dtypes) || !Array.isArray(shapes)) {
    throw formError(
      "{'type': 'missing', 'loc': ('body', 'names'), 'msg': 'names, dtypes and shapes are required'}",
    );
  }
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
  if (action === "snapshot") return answer({ success: true, message: "Success." });
  if (action !== "checksum") {
    return answer({ success: false, message: `Unsupported action='${action}'` });
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
  if (version !== null && typeof version !== "string") throw wrongType("weight_version", "string");
  return {
    flushCache: fields.flush_cache !== false,
    abortAll: fields.abort_all_requests === true,
    weightVersion: version,
  };
}

function text(fields: Fields, key: string, fallback?: string): string {
  const value = fields[key] ?? fallback;
  if (typeof value === "string") return value;
  throw wrongType(key, "string");
}

function integer(fields: Fields, key: string): number {
  const value = fields[key];
  if (typeof value === "number" && Number.isInteger(value)) return value;
  throw wrongType(key, "integer");
}

function wrongType(key: string, type: string): Error {
  return formError(
    `{'type': '${type}_type', 'loc': ('body', '${key}'), 'msg': 'Input should be a valid ${type}'}`,
  );
}

function isTexts(value: unknown): value is string[] {
  return Array.isArray(value) && value.every((item) => typeof item === "string");
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
  return new Uint8Array(await crypto.subtle.digest("SHA-256", bytes)).toHex();
}
