/** Runs the statements of a template. */
import { Budget, type TemplateLimits, withBudget } from "./budget.ts";
import { Evaluator, Scope } from "./evaluator.ts";
import { checkAttribute, Dynamic } from "./globals.ts";
import { systemClock } from "../../../internal/clock.ts";
import { atOnce, type Steps } from "../../../internal/work_turns.ts";
import { loopValue, uses } from "./loops.ts";
import type { Body, Macro, Statement, Target } from "./nodes.ts";
import { toText } from "./text.ts";
import {
  Callable,
  type CallArguments,
  isTrue,
  iterate,
  JinjaError,
  Namespace,
  Tuple,
  Undefined,
} from "./values.ts";

/** A stretch of the output, in UTF-16 units. */
export interface Stretch {
  /** Where it begins. */
  readonly start: number;
  /** Where it ends. */
  readonly end: number;
}

/** What rendering gave; `Message` is what stands for a message in `turns`. */
export interface Rendered<Message = unknown> {
  /** The output. */
  readonly text: string;
  /** What stands inside `{% generation %}`; `null` where such a block was not written straight out. */
  readonly generated: readonly (Stretch | null)[];
  /** What a loop over the messages wrote for each of them. */
  readonly turns: readonly (Stretch & { readonly message: Message })[];
  /** Steps that it took. */
  readonly steps: number;
}

/** How to run a template. */
export interface RunOptions {
  /** Variables, as Python's values. */
  readonly variables: ReadonlyMap<string, unknown>;
  /** Dicts whose loops are noted in `turns`. */
  readonly messages: ReadonlySet<unknown>;
  /** What it may use. */
  readonly limits: TemplateLimits;
  /** For `strftime_now`. */
  readonly now: () => Date;
}

/** Where output goes: the text itself, or a text that is kept in a variable. */
class Sink {
  readonly #parts: string[] = [];
  length = 0;

  write(text: string): void {
    if (text === "") return;
    this.#parts.push(text);
    this.length += text.length;
  }

  text(): string {
    return this.#parts.join("");
  }
}

type Flow = "break" | "continue" | undefined;

/**
 * Runs a template.
 *
 * @throws {JinjaError} What Python or the template would raise.
 * @throws {OverBudget} It used more than its limits.
 */
export function runTemplate(body: Body, options: RunOptions): Rendered {
  return new Interpreter(options).run(body);
}

/**
 * The same in steps: the loops of the template's own level go on an item at a time.
 *
 * @throws {JinjaError} What Python or the template would raise.
 * @throws {OverBudget} It used more than its limits.
 */
export function templateSteps(body: Body, options: RunOptions): Steps<Rendered> {
  return new Interpreter(options).steps(body);
}

/** Steps of a template until others may have their turn, and those that take as long as a character. */
const STEPS_AT_ONCE = 8192, STEPS_A_CHARACTER = 8;

class Interpreter {
  readonly #budget: Budget;
  readonly #expressions: Evaluator;
  readonly #messages: ReadonlySet<unknown>;
  readonly #root = new Sink();
  readonly #generated: (Stretch | null)[] = [];
  readonly #turns: (Stretch & { message: unknown })[] = [];
  #limits: TemplateLimits;

  constructor({ variables, messages, limits, now }: RunOptions) {
    this.#budget = new Budget(limits);
    this.#expressions = new Evaluator({ variables, now, budget: this.#budget });
    this.#limits = limits;
    this.#messages = messages;
  }

  run(body: Body): Rendered {
    withBudget(this.#budget, () => this.#body(body, new Scope(null), this.#root));
    return this.#rendered();
  }

  *steps(body: Body): Steps<Rendered> {
    const steps = this.#outerBody(body, new Scope(null));
    let leftMs = this.#limits.maxMs;
    for (;;) {
      const before = this.#budget.steps;
      const begunMs = systemClock.now();
      const some = () => {
        let step = steps.next();
        while (!step.done && this.#budget.steps < before + STEPS_AT_ONCE) step = steps.next();
        return step;
      };
      const step = withBudget(this.#budget, some, leftMs);
      leftMs -= systemClock.now() - begunMs;
      if (step.done === true) return this.#rendered();
      yield (this.#budget.steps - before) / STEPS_A_CHARACTER;
    }
  }

  /** A body that writes to the output itself, not within a loop. */
  *#outerBody(body: Body, scope: Scope): Generator<void, Flow, undefined> {
    for (const statement of body) {
      let flow: Flow;
      if (statement.type === "for") {
        this.#budget.step();
        flow = yield* this.#forItems(statement, scope, this.#root, null);
      } else if (statement.type === "if") {
        this.#budget.step();
        const isSo = isTrue(this.#expressions.value(statement.test, scope));
        flow = yield* this.#outerBody(isSo ? statement.body : statement.otherwise, scope);
      } else flow = this.#statement(statement, scope, this.#root);
      if (flow !== undefined) return flow;
    }
  }

  #rendered(): Rendered {
    return {
      text: this.#root.text(),
      generated: this.#generated,
      turns: this.#turns,
      steps: this.#budget.steps,
    };
  }

  #body(body: Body, scope: Scope, sink: Sink): Flow {
    for (const statement of body) {
      const flow = this.#statement(statement, scope, sink);
      if (flow !== undefined) return flow;
    }
  }

  /** What a body writes, as a text. */
  #captured(body: Body, scope: Scope): string {
    const sink = new Sink();
    this.#body(body, scope, sink);
    return sink.text();
  }

  #write(text: string, sink: Sink): void {
    this.#budget.make(text.length);
    if (sink.length + text.length > this.#limits.maxCharacters) this.#budget.make(Infinity);
    sink.write(text);
  }

  #statement(statement: Statement, scope: Scope, sink: Sink): Flow {
    this.#budget.step();
    switch (statement.type) {
      case "text":
        this.#write(statement.text, sink);
        return;
      case "output":
        this.#write(toText(this.#expressions.value(statement.value, scope)), sink);
        return;
      case "set":
        this.#assign(statement.target, this.#expressions.value(statement.value, scope), scope);
        return;
      case "capture": {
        const text = this.#captured(statement.body, new Scope(scope));
        const { filter } = statement;
        const value = filter === null ? text : this.#expressions.filtered(filter, text, scope);
        this.#assign(statement.target, value, scope);
        return;
      }
      case "if":
        return isTrue(this.#expressions.value(statement.test, scope))
          ? this.#body(statement.body, scope, sink)
          : this.#body(statement.otherwise, scope, sink);
      case "for":
        return this.#for(statement, scope, sink, null);
      case "break":
      case "continue":
        return statement.type;
      case "macro":
        scope.set(statement.name, this.#macro(statement.macro, scope));
        return;
      case "callBlock": {
        const { call, macro } = statement;
        if (call.type !== "call") return;
        const given = this.#expressions.given(call.given, scope);
        const named = new Map(given.named).set("caller", this.#macro(macro, scope));
        this.#write(
          toText(
            this.#expressions.call(this.#expressions.value(call.callee, scope), {
              args: given.args,
              named,
            }),
          ),
          sink,
        );
        return;
      }
      case "filterBlock": {
        const text = this.#captured(statement.body, new Scope(scope));
        this.#write(toText(this.#expressions.filtered(statement.filter, text, scope)), sink);
        return;
      }
      case "with": {
        const inner = new Scope(scope);
        const values = statement.sets.map(([, value]) => this.#expressions.value(value, scope));
        statement.sets.forEach(([target], index) => this.#assign(target, values[index], inner));
        return this.#body(statement.body, inner, sink);
      }
      case "scope":
        return this.#body(statement.body, new Scope(scope), sink);
      case "generation": {
        const start = sink.length;
        this.#body(statement.body, new Scope(scope), sink);
        this.#generated.push(sink === this.#root ? { start, end: sink.length } : null);
        return;
      }
    }
  }

  #assign(target: Target, value: unknown, scope: Scope): void {
    if (target.type === "name") return scope.set(target.name, value);
    if (target.type === "attribute") {
      const space = this.#expressions.name(target.namespace, scope);
      if (!(space instanceof Namespace)) {
        throw new JinjaError(
          "TemplateRuntimeError",
          "cannot assign attribute on non-namespace object",
        );
      }
      checkAttribute(target.name);
      space.values.set(target.name, value);
      return;
    }
    const values = iterate(value);
    const wanted = target.items.length;
    if (values.length !== wanted) {
      throw new JinjaError(
        "ValueError",
        values.length > wanted
          ? `too many values to unpack (expected ${wanted})`
          : `not enough values to unpack (expected ${wanted}, got ${values.length})`,
      );
    }
    target.items.forEach((item, index) => this.#assign(item, values[index], scope));
  }

  #for(
    statement: Statement & { type: "for" },
    scope: Scope,
    sink: Sink,
    again: { items: unknown; depth: number } | null,
  ): Flow {
    return atOnce(this.#forItems(statement, scope, sink, again));
  }

  /** A loop, item by item. */
  *#forItems(
    statement: Statement & { type: "for" },
    scope: Scope,
    sink: Sink,
    again: { items: unknown; depth: number } | null,
  ): Generator<void, Flow, undefined> {
    const depth = again?.depth ?? 0;
    const source = again === null ? this.#expressions.value(statement.of, scope) : again.items;
    let items = iterate(source);
    this.#budget.work(items.length);
    const { test } = statement;
    if (test !== null) {
      items = items.filter((item) => {
        const inner = new Scope(scope);
        this.#assign(statement.target, item, inner);
        return isTrue(this.#expressions.value(test, inner));
      });
    }
    if (items.length === 0) {
      this.#body(statement.otherwise, new Scope(scope), sink);
      return;
    }
    const counted = again === null ? this.#expressions.counted(statement.of, scope) : null;
    const state = { index: 0, changed: undefined as readonly unknown[] | undefined };
    const recurse = (given: CallArguments) => {
      if (!statement.isRecursive) {
        throw new JinjaError(
          "TypeError",
          "The loop must have the 'recursive' marker to be called recursively.",
        );
      }
      const inner = new Sink();
      this.#budget.deeper(() =>
        this.#for(statement, scope, inner, { items: given.args[0], depth: depth + 1 })
      );
      return inner.text();
    };
    const loop = new Dynamic(
      "LoopContext",
      (name) => loopValue(name, items, state, depth),
      recurse,
    );
    for (; state.index < items.length; state.index++) {
      this.#budget.step();
      const inner = new Scope(scope);
      inner.set("loop", loop);
      const item = items[state.index];
      this.#assign(statement.target, item, inner);
      const start = sink.length;
      const flow = this.#body(statement.body, inner, sink);
      const message = counted === null ? item : counted[Number(item)];
      if (sink === this.#root && sink.length > start && this.#messages.has(message)) {
        this.#turns.push({ start, end: sink.length, message });
      }
      if (flow === "break") break;
      yield;
    }
  }

  #macro(macro: Macro, scope: Scope): Callable {
    const names = macro.parameters.map(({ name }) => name);
    const call = ({ args, named }: CallArguments): string =>
      this.#budget.deeper(() => {
        const inner = new Scope(scope);
        const rest = new Map(named);
        macro.parameters.forEach((parameter, index) => {
          const { name } = parameter;
          let value: unknown;
          if (index < args.length) {
            if (rest.has(name)) {
              throw new JinjaError(
                "TypeError",
                `macro '${macro.name}' got multiple values for argument '${name}'`,
              );
            }
            value = args[index];
          } else if (rest.has(name)) value = rest.get(name);
          else if (parameter.default !== null) {
            value = this.#expressions.value(parameter.default, inner);
          } else value = new Undefined(`parameter '${name}' was not provided`);
          rest.delete(name);
          inner.set(name, value);
        });
        const caller = rest.get("caller");
        rest.delete("caller");
        const usesCaller = uses(macro, "caller");
        if (usesCaller) inner.set("caller", caller ?? new Undefined("No caller defined"));
        if (uses(macro, "varargs")) inner.set("varargs", new Tuple(args.slice(names.length)));
        else if (args.length > names.length) {
          throw new JinjaError(
            "TypeError",
            `macro '${macro.name}' takes not more than ${names.length} argument(s)`,
          );
        }
        if (uses(macro, "kwargs")) inner.set("kwargs", rest);
        else if (rest.size > 0 || caller !== undefined && !usesCaller) {
          const [name = "caller"] = rest.keys();
          throw new JinjaError(
            "TypeError",
            `macro '${macro.name}' takes no keyword argument '${name}'`,
          );
        }
        return this.#captured(macro.body, inner);
      });
    const attributes = new Map<string, unknown>([
      ["name", macro.name],
      ["arguments", new Tuple(names)],
    ]);
    return new Callable(macro.name, call, attributes);
  }
}
