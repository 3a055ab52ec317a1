import { ValidationError } from "../errors.ts";
import type { ByteSource } from "../internal/byte_source.ts";
import { isTooDeep } from "../internal/json.ts";
import { findLines, readLines } from "../internal/line_index.ts";
import type { ReadSettings, RowReader } from "./row_reader.ts";
import { isRecord } from "../internal/json.ts";
import { Fields } from "./fields.ts";
import { type RolloutRecord, rolloutSchemas, textOfContent } from "./record.ts";

/** Rows of JSON lines: the places of the lines are in memory (8 bytes each), the lines are not. */
export async function openJsonLines(
  source: ByteSource,
  options: ReadSettings,
): Promise<RowReader> {
  const starts = await findLines(source, options);
  const length = starts.length - 1;
  const first = length === 0 ? null : (await readLines(source, starts, 0, 1))[0]!;
  return {
    form: "json-lines",
    schema: first === null ? "sglang-rl.rollout/2" : schemaOf(first, `${source.name}, row 0`),
    length,
    versionNames: null,
    sizeOf: (start, end) => starts[end]! - starts[start]!,
    async rows(start, end) {
      const lines = await readLines(source, starts, start, end);
      return lines.map((line, i) => toRecord(line, `${source.name}, row ${start + i}`));
    },
  };
}

function parse(line: string, where: string): Record<string, unknown> {
  if (isTooDeep(line)) throw new ValidationError(`${where} is nested too deep for a row`);
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch (cause) {
    const isCut = !line.trimEnd().endsWith("}");
    throw new ValidationError(
      `${where} is not JSON` +
        (isCut ? ": it was cut, as by a writer that was killed; delete the line" : ""),
      { cause },
    );
  }
  if (isRecord(value)) return value;
  throw new ValidationError(`${where} is no JSON object`);
}

function schemaOf(line: string, where: string) {
  return new Fields(parse(line, where), where).oneOf("schema", rolloutSchemas);
}

function toRecord(line: string, where: string): RolloutRecord {
  const fields = new Fields(parse(line, where), where);
  const isOld = fields.oneOf("schema", rolloutSchemas) === "sglang-rl.rollout/1";
  const dialog = fields.count("dialog");
  const response = fields.message("response");
  const responseIds = fields.ids("response_ids");
  const { length } = responseIds;
  return {
    dialog,
    attempt: fields.count("attempt"),
    group: fields.count("group", isOld ? dialog : undefined),
    member: fields.count("member", isOld ? 0 : undefined),
    environment: fields.count("environment"),
    turn: fields.count("turn"),
    parent: fields.countOrNull("parent"),
    branch: fields.count("branch", isOld ? 0 : undefined),
    messages: fields.messages("messages"),
    response,
    responseText: textOfContent(response.content),
    promptIds: fields.idsOrNull("prompt_ids"),
    responseIds,
    logProbs: fields.logProbsOrNull("log_probs", length),
    tokenVersions: fields.versionsOrNull("token_versions", length),
    versionsExact: fields.flag("versions_exact"),
    weightVersions: fields.spansOrNull("weight_versions"),
    ...fields.routedExperts("routed_experts"),
    server: fields.textOrNull("server"),
    reward: fields.real("reward"),
    done: fields.flag("done"),
    truncated: fields.flag("truncated"),
    stale: fields.flag("stale"),
    finishReason: fields.oneOf("finish_reason", ["stop", "length", "abort"]),
    info: fields.object("info"),
  };
}
