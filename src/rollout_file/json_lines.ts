import { ValidationError } from "../errors.ts";
import type { ByteSource } from "../internal/byte_source.ts";
import { isRecord, jsonExcess } from "../internal/json.ts";
import { findLines, type LineIndex } from "../internal/line_index.ts";
import { messageOf } from "../internal/thrown.ts";
import { Fields } from "./fields.ts";
import {
  finishNames,
  type RolloutRecord,
  type RolloutSchema,
  rolloutSchemas,
  textOfContent,
} from "./record.ts";
import { type DamagedRow, orDamaged, type ReadSettings, type RowReader } from "./row_reader.ts";

/** Rows that are looked at together for the file's schema. */
const TRIED_AT_ONCE = 64;

/** Rows of JSON lines: the places of the lines are in memory (8 bytes each), the lines are not. */
export async function openJsonLines(
  source: ByteSource,
  options: ReadSettings,
): Promise<RowReader> {
  const lines = await findLines(source, { ...options, keepsLongLines: true });
  return {
    form: "json-lines",
    schema: await schemaOf(lines, options.signal),
    length: lines.length,
    versionNames: null,
    sizeOf: (start, end) => lines.sizeOf(start, end),
    async lines(start, end) {
      return (await lines.read(start, end)).map((text) => {
        if (text instanceof Error) throw text;
        return `${text.trim()}\n`;
      }).join("");
    },
    async rows(start, end) {
      const texts = await lines.read(start, end);
      return texts.map((text, i) => {
        if (text instanceof Error) return text;
        return orDamaged(() =>
          toRecord(text, lines.nameOf(start + i), start + i === lines.length - 1)
        );
      });
    },
  };
}

/** That of the first row that can be read. */
async function schemaOf(
  lines: LineIndex,
  signal: AbortSignal | undefined,
): Promise<RolloutSchema> {
  let first: DamagedRow | undefined;
  // The first one tells, as a rule: a window of large rows is not read for it.
  for (let start = 0, end = 1; start < lines.length; start = end, end += TRIED_AT_ONCE) {
    signal?.throwIfAborted();
    const texts = await lines.read(start, Math.min(end, lines.length));
    for (const [i, text] of texts.entries()) {
      const where = lines.nameOf(start + i);
      const schema = text instanceof Error
        ? text
        : orDamaged(() => new Fields(parse(text, where), where).oneOf("schema", rolloutSchemas));
      if (!(schema instanceof Error)) return schema;
      first ??= schema;
    }
  }
  if (first !== undefined) throw first;
  return "sglang-rl.rollout/2";
}

function parse(line: string, where: string, isLast = false): Record<string, unknown> {
  const excess = jsonExcess(line);
  if (excess !== null) throw new ValidationError(`${where} ${excess}`);
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch (cause) {
    throw new ValidationError(
      `${where} is not JSON` +
        (isLast && !line.endsWith("\n")
          ? ": the file ends within the line, as one whose writer was killed or still writes"
          : `: ${messageOf(cause).slice(0, 200)}`),
      { cause },
    );
  }
  if (isRecord(value)) return value;
  throw new ValidationError(`${where} is no JSON object`);
}

function toRecord(line: string, where: string, isLast: boolean): RolloutRecord {
  const fields = new Fields(parse(line, where, isLast), where);
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
    finishReason: fields.oneOf("finish_reason", finishNames),
    info: fields.object("info"),
  };
}
