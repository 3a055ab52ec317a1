/**
 * Jinja as transformers runs it on chat templates: jinja2's sandbox with `trim_blocks`,
 * `lstrip_blocks`, loop controls, `{% generation %}`, and its own `tojson`, `strftime_now` and
 * `raise_exception`. Values and their texts are Python's.
 */
import { checkTemplateLimits, OverBudget, type TemplateLimits } from "./budget.ts";
import { type Rendered, runTemplate, templateSteps } from "./interpreter.ts";
import type { Steps } from "../../../internal/work_turns.ts";
import type { Body } from "./nodes.ts";
import { parseTemplate } from "./parser.ts";
import { ArgumentsText, fromJs, JinjaError } from "./values.ts";

export {
  checkTemplateLimits,
  defaultTemplateLimits,
  OverBudget,
  type TemplateLimits,
} from "./budget.ts";
export type { Rendered, Stretch } from "./interpreter.ts";
export { dumps, parseJson } from "./json.ts";
export { ArgumentsDict, ArgumentsText, fromJs, JinjaError, PythonFloat } from "./values.ts";

/** How to render. */
export interface JinjaOptions {
  /** Variables of the template, as JavaScript's values. */
  readonly variables: Readonly<Record<string, unknown>>;
  /** What it may use. */
  readonly limits?: Partial<TemplateLimits> | undefined;
  /** For `strftime_now`. Default the time of the call. */
  readonly now?: (() => Date) | undefined;
}

/** Characters of a template's source; the longest of known models have some 30,000. */
const maxSource = 256 * 1024;

/** A template, parsed. */
export class JinjaTemplate {
  readonly #body: Body;

  /**
   * Parses a template.
   *
   * @throws {JinjaError} It has a syntax error.
   * @throws {OverBudget} It is too long.
   */
  constructor(source: string) {
    if (source.length > maxSource) throw new OverBudget("maxCharacters", maxSource);
    this.#body = withStackError(() => parseTemplate(source));
  }

  /**
   * Renders it. `turns` of what comes back name the messages by their place in `messages`.
   *
   * @throws {JinjaError} What Python or the template would raise.
   * @throws {OverBudget} It used more than its limits.
   */
  render(options: JinjaOptions): Rendered<number> {
    return withStackError(() => {
      const { run, named } = prepared(options);
      return named(runTemplate(this.#body, run));
    });
  }

  /**
   * The same in steps, so that others have their turns while a long conversation is rendered.
   *
   * @throws {JinjaError} What Python or the template would raise.
   * @throws {OverBudget} It used more than its limits.
   */
  *renderInSteps(options: JinjaOptions): Steps<Rendered<number>> {
    const { run, named } = withStackError(() => prepared(options));
    yield run.size / VALUES_A_STEP;
    const steps = templateSteps(this.#body, run);
    for (;;) {
      const step = withStackError(() => steps.next());
      if (step.done === true) return named(step.value);
      yield step.value;
    }
  }
}

/** Characters and entries of what a template is given that take as long as a step. */
const VALUES_A_STEP = 256;

function prepared(options: JinjaOptions) {
  const { limits, now = () => new Date() } = options;
  const variables = new Map<string, unknown>();
  for (const [name, value] of Object.entries(options.variables)) {
    if (value !== undefined) variables.set(name, fromJs(value));
  }
  const list = variables.get("messages");
  const messages = new Map(Array.isArray(list) ? list.map((item, at) => [item, at]) : []);
  const size = sizeOf(variables);
  return {
    run: {
      variables,
      messages: new Set(messages.keys()),
      limits: checkTemplateLimits(limits, size, messages.size),
      now,
      size,
    },
    named: (rendered: Rendered): Rendered<number> => ({
      ...rendered,
      turns: rendered.turns.map((turn) => ({ ...turn, message: messages.get(turn.message)! })),
    }),
  };
}

/** Characters and entries of what a template is given. */
function sizeOf(value: unknown): number {
  if (typeof value === "string") return value.length;
  if (value instanceof ArgumentsText) return value.text.length;
  if (Array.isArray(value)) return value.reduce((sum: number, item) => sum + 1 + sizeOf(item), 0);
  if (!(value instanceof Map)) return 0;
  let size = 0;
  for (const [key, item] of value) size += 1 + sizeOf(key) + sizeOf(item);
  return size;
}

/** What is nested too deep for the stack is an error like any other. */
function withStackError<T>(run: () => T): T {
  try {
    return run();
  } catch (error) {
    if (error instanceof RangeError && /call stack/i.test(error.message)) {
      throw new JinjaError("RecursionError", "maximum recursion depth exceeded");
    }
    throw error;
  }
}
