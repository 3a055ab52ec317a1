/** Runs the syntax tree of a template. */
import { Budget, type TemplateLimits, withBudget } from "./budget.ts";
import { filters, Group, type Tools } from "./filters.ts";
import { checkAttribute, Dynamic, makeGlobals } from "./globals.ts";
import { charAt, methodOf } from "./methods.ts";
import type { Body, Expression, Given, Macro, Statement, Target } from "./nodes.ts";
import { binary, sign } from "./operators.ts";
import { codePoints, repr, toText } from "./text.ts";
import { contains, tests } from "./tests.ts";
import {
  ArgumentsText,
  Callable,
  type CallArguments,
  compare,
  equals,
  isTrue,
  iterate,
  JinjaError,
  keyOf,
  Namespace,
  Range,
  sizeOf,
  toIndex,
  Tuple,
  typeName,
  Undefined,
  Unsafe,
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

/** Names of one block; those around it are its parent's. */
class Scope {
  readonly #names = new Map<string, unknown>();

  constructor(readonly parent: Scope | null) {}

  get(name: string): { value: unknown } | null {
    const value = this.#names.get(name);
    return value !== undefined ? { value } : this.parent === null ? null : this.parent.get(name);
  }

  set(name: string, value: unknown): void {
    this.#names.set(name, value);
  }
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

class Interpreter implements Tools {
  readonly budget: Budget;
  readonly #variables: ReadonlyMap<string, unknown>;
  readonly #messages: ReadonlySet<unknown>;
  readonly #globals: ReadonlyMap<string, unknown>;
  readonly #root = new Sink();
  readonly #generated: (Stretch | null)[] = [];
  readonly #turns: (Stretch & { message: unknown })[] = [];
  #limits: TemplateLimits;

  constructor({ variables, messages, limits, now }: RunOptions) {
    this.budget = new Budget(limits);
    this.#limits = limits;
    this.#variables = variables;
    this.#messages = messages;
    this.#globals = makeGlobals({ budget: this.budget, now });
  }

  run(body: Body): Rendered {
    withBudget(this.budget, () => this.#body(body, new Scope(null), this.#root));
    return {
      text: this.#root.text(),
      generated: this.#generated,
      turns: this.#turns,
      steps: this.budget.steps,
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
    this.budget.make(text.length);
    if (sink.length + text.length > this.#limits.maxCharacters) this.budget.make(Infinity);
    sink.write(text);
  }

  #statement(statement: Statement, scope: Scope, sink: Sink): Flow {
    this.budget.step();
    switch (statement.type) {
      case "text":
        this.#write(statement.text, sink);
        return;
      case "output":
        this.#write(toText(this.#value(statement.value, scope)), sink);
        return;
      case "set":
        this.#assign(statement.target, this.#value(statement.value, scope), scope);
        return;
      case "capture": {
        const text = this.#captured(statement.body, new Scope(scope));
        const { filter } = statement;
        const value = filter === null ? text : this.#filtered(filter, text, scope);
        this.#assign(statement.target, value, scope);
        return;
      }
      case "if":
        return isTrue(this.#value(statement.test, scope))
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
        const given = this.#given(call.given, scope);
        const named = new Map(given.named).set("caller", this.#macro(macro, scope));
        this.#write(
          toText(this.#call(this.#value(call.callee, scope), { args: given.args, named })),
          sink,
        );
        return;
      }
      case "filterBlock": {
        const text = this.#captured(statement.body, new Scope(scope));
        this.#write(toText(this.#filtered(statement.filter, text, scope)), sink);
        return;
      }
      case "with": {
        const inner = new Scope(scope);
        const values = statement.sets.map(([, value]) => this.#value(value, scope));
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
      const space = this.#name(target.namespace, scope);
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
    const depth = again?.depth ?? 0;
    const source = again === null ? this.#value(statement.of, scope) : again.items;
    let items = iterate(source);
    this.budget.work(items.length);
    const { test } = statement;
    if (test !== null) {
      items = items.filter((item) => {
        const inner = new Scope(scope);
        this.#assign(statement.target, item, inner);
        return isTrue(this.#value(test, inner));
      });
    }
    if (items.length === 0) {
      this.#body(statement.otherwise, new Scope(scope), sink);
      return;
    }
    const state = { index: 0, changed: undefined as readonly unknown[] | undefined };
    const recurse = (given: CallArguments) => {
      if (!statement.isRecursive) {
        throw new JinjaError(
          "TypeError",
          "The loop must have the 'recursive' marker to be called recursively.",
        );
      }
      const inner = new Sink();
      this.budget.deeper(() =>
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
      this.budget.step();
      const inner = new Scope(scope);
      inner.set("loop", loop);
      const item = items[state.index];
      this.#assign(statement.target, item, inner);
      const start = sink.length;
      const flow = this.#body(statement.body, inner, sink);
      if (sink === this.#root && sink.length > start && this.#messages.has(item)) {
        this.#turns.push({ start, end: sink.length, message: item });
      }
      if (flow === "break") break;
    }
  }

  #macro(macro: Macro, scope: Scope): Callable {
    const names = macro.parameters.map(({ name }) => name);
    const call = ({ args, named }: CallArguments): string =>
      this.budget.deeper(() => {
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
          else if (parameter.default !== null) value = this.#value(parameter.default, inner);
          else value = new Undefined(`parameter '${name}' was not provided`);
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

  #value(node: Expression, scope: Scope): unknown {
    this.budget.step();
    switch (node.type) {
      case "constant":
        return node.value;
      case "name":
        return this.#name(node.name, scope);
      case "list":
        return node.items.map((item) => this.#value(item, scope));
      case "tuple":
        return new Tuple(node.items.map((item) => this.#value(item, scope)));
      case "dict":
        return new Map(
          node.entries.map(([key, value]) =>
            [keyOf(this.#value(key, scope)), this.#value(value, scope)] as const
          ),
        );
      case "not":
        return !isTrue(this.#value(node.of, scope));
      case "negative":
      case "positive":
        return sign(node.type, this.#value(node.of, scope));
      case "binary":
        return binary(
          node.operator,
          this.#value(node.left, scope),
          this.#value(node.right, scope),
          this.budget,
        );
      case "and": {
        const left = this.#value(node.left, scope);
        return isTrue(left) ? this.#value(node.right, scope) : left;
      }
      case "or": {
        const left = this.#value(node.left, scope);
        return isTrue(left) ? left : this.#value(node.right, scope);
      }
      case "concat": {
        const texts = node.items.map((item) => toText(this.#value(item, scope)));
        this.budget.make(texts.reduce((total, text) => total + text.length, 0));
        return texts.join("");
      }
      case "compare":
        return this.#compare(node, scope);
      case "condition":
        if (isTrue(this.#value(node.test, scope))) return this.#value(node.then, scope);
        if (node.otherwise !== null) return this.#value(node.otherwise, scope);
        return new Undefined(
          "the inline if-expression evaluated to false and no else section was defined.",
        );
      case "attribute":
        return this.attribute(this.#value(node.of, scope), node.name);
      case "item":
        return this.#item(node, scope);
      case "slice":
        throw new JinjaError("TypeError", "a slice stands alone");
      case "call":
        return this.#call(this.#value(node.callee, scope), this.#given(node.given, scope));
      case "filter":
        return this.#filtered(node, undefined, scope);
      case "test":
        return this.test(node.name, this.#value(node.of, scope), this.#given(node.given, scope));
    }
  }

  #name(name: string, scope: Scope): unknown {
    const found = scope.get(name);
    if (found !== null) return found.value;
    if (this.#variables.has(name)) return this.#variables.get(name);
    return this.#globals.get(name) ?? new Undefined(`${repr(name)} is undefined`);
  }

  #compare(node: Expression & { type: "compare" }, scope: Scope): boolean {
    let left = this.#value(node.first, scope);
    for (const { operator, value } of node.rest) {
      const right = this.#value(value, scope);
      if (!this.#holds(operator, left, right)) return false;
      left = right;
    }
    return true;
  }

  #holds(operator: string, left: unknown, right: unknown): boolean {
    this.budget.work(sizeOf(left) + sizeOf(right));
    switch (operator) {
      case "==":
        return equals(left, right);
      case "!=":
        return !equals(left, right);
      case "in":
        return contains(right, left);
      case "not in":
        return !contains(right, left);
    }
    const order = compare(left, right, operator);
    if (operator === "<") return order < 0;
    if (operator === "<=") return order <= 0;
    return operator === ">" ? order > 0 : order >= 0;
  }

  attribute(of: unknown, name: string): unknown {
    if (of instanceof Undefined) of.fail();
    if (of instanceof Namespace) {
      return of.values.has(name) ? of.values.get(name) : missing(of, name);
    }
    if (of instanceof Dynamic) return of.read(name) ?? missing(of, name);
    if (of instanceof Group && (name === "grouper" || name === "list")) return of[name];
    if (of instanceof Callable) return of.attributes.get(name) ?? missing(of, name);
    const method = methodOf(of, name, this.budget, this);
    if (method !== undefined) return method;
    const dict = of instanceof ArgumentsText ? of.dict : of;
    return dict instanceof Map && dict.has(name) ? dict.get(name) : missing(of, name);
  }

  item(of: unknown, key: unknown): unknown {
    if (of instanceof Undefined) of.fail();
    const found = itemOf(of, key);
    if (found !== undefined) return found;
    return typeof key === "string" ? this.attribute(of, key) : missing(of, key);
  }

  #item(node: Expression & { type: "item" }, scope: Scope): unknown {
    const of = this.#value(node.of, scope);
    if (node.key.type !== "slice") return this.item(of, this.#value(node.key, scope));
    if (of instanceof Undefined) of.fail();
    const { start, stop, stride } = node.key;
    const [from, to, by] = [start, stop, stride].map((part) => {
      const value = part === null ? null : this.#value(part, scope);
      if (value === null) return null;
      if (typeof value === "bigint" || typeof value === "boolean") return toIndex(BigInt(value));
      if (value instanceof Undefined) value.fail();
      throw new JinjaError("TypeError", "slice indices must be integers or None");
    });
    return this.#slice(of, from ?? null, to ?? null, by ?? 1);
  }

  #slice(of: unknown, start: number | null, stop: number | null, by: number): unknown {
    if (by === 0) throw new JinjaError("ValueError", "slice step cannot be zero");
    const text = of instanceof ArgumentsText ? of.text : of;
    const list = typeof text === "string"
      ? codePoints(text)
      : Array.isArray(text)
      ? text
      : text instanceof Tuple
      ? text.items
      : text instanceof Range
      ? text.toArray()
      : null;
    if (list === null) return missing(of, "slice");
    const length = list.length;
    const clamp = (value: number | null, otherwise: number) => {
      if (value === null) return otherwise;
      const index = value < 0 ? value + length : value;
      return by > 0
        ? Math.min(Math.max(index, 0), length)
        : Math.min(Math.max(index, -1), length - 1);
    };
    const from = clamp(start, by > 0 ? 0 : length - 1);
    const to = clamp(stop, by > 0 ? length : -1);
    this.budget.work(length);
    if (by === 1 && typeof list === "string") return list.slice(from, Math.max(from, to));
    const picked: unknown[] = [];
    for (let i = from; by > 0 ? i < to : i > to; i += by) picked.push(list[i]);
    if (typeof text === "string") return picked.join("");
    return text instanceof Tuple ? new Tuple(picked) : picked;
  }

  #given(given: Given, scope: Scope): CallArguments {
    const args = given.args.map((value) => this.#value(value, scope));
    const named = new Map(
      given.named.map(([name, value]) => [name, this.#value(value, scope)] as const),
    );
    if (given.star !== null) args.push(...iterate(this.#value(given.star, scope)));
    if (given.doubleStar !== null) {
      const more = this.#value(given.doubleStar, scope);
      if (!(more instanceof Map)) {
        throw new JinjaError(
          "TypeError",
          `argument after ** must be a mapping, not ${typeName(more)}`,
        );
      }
      for (const [name, value] of more) named.set(toText(name), value);
    }
    return { args, named };
  }

  #call(callee: unknown, given: CallArguments): unknown {
    this.#countGiven(given);
    if (callee instanceof Callable) return callee.call(given);
    if (callee instanceof Dynamic && callee.call !== undefined) return callee.call(given);
    if (callee instanceof Unsafe) callee.fail();
    if (callee instanceof Undefined) callee.fail();
    throw new JinjaError("TypeError", `'${typeName(callee)}' object is not callable`);
  }

  /** What is called reads what it is given: that counts before it runs. */
  #countGiven({ args, named }: CallArguments): void {
    for (const value of args) this.budget.work(sizeOf(value));
    for (const value of named.values()) this.budget.work(sizeOf(value));
  }

  /** A filter; the innermost of a chain without a value gets `start`. */
  #filtered(node: Expression, start: unknown, scope: Scope): unknown {
    if (node.type !== "filter") return this.#value(node, scope);
    const value = node.of === null
      ? start
      : node.of.type === "filter"
      ? this.#filtered(node.of, start, scope)
      : this.#value(node.of, scope);
    return this.filter(node.name, value, this.#given(node.given, scope));
  }

  filter(name: string, value: unknown, given: CallArguments): unknown {
    this.budget.work(sizeOf(value));
    this.#countGiven(given);
    const filter = Object.hasOwn(filters, name) ? filters[name] : undefined;
    if (filter !== undefined) return filter(value, given, this);
    throw new JinjaError("TemplateRuntimeError", `No filter named ${repr(name)} found.`);
  }

  test(name: string, value: unknown, given: CallArguments): boolean {
    this.budget.work(sizeOf(value));
    this.#countGiven(given);
    const test = Object.hasOwn(tests, name) ? tests[name] : undefined;
    if (test !== undefined) return test(value, given);
    throw new JinjaError("TemplateRuntimeError", `No test named ${repr(name)} found.`);
  }
}

function loopValue(
  name: string,
  items: readonly unknown[],
  state: { index: number; changed: readonly unknown[] | undefined },
  depth: number,
): unknown {
  const { index } = state;
  const { length } = items;
  switch (name) {
    case "index":
      return BigInt(index + 1);
    case "index0":
      return BigInt(index);
    case "revindex":
      return BigInt(length - index);
    case "revindex0":
      return BigInt(length - index - 1);
    case "first":
      return index === 0;
    case "last":
      return index === length - 1;
    case "length":
      return BigInt(length);
    case "depth":
      return BigInt(depth + 1);
    case "depth0":
      return BigInt(depth);
    case "previtem":
      return index === 0 ? new Undefined("there is no previous item") : items[index - 1];
    case "nextitem":
      return index === length - 1 ? new Undefined("there is no next item") : items[index + 1];
    case "cycle":
      return new Callable(name, ({ args }) => {
        if (args.length === 0) throw new JinjaError("TypeError", "no items for cycling given");
        return args[index % args.length];
      });
    case "changed":
      return new Callable(name, ({ args }) => {
        const { changed } = state;
        state.changed = args;
        return changed === undefined || changed.length !== args.length ||
          !args.every((value, i) => equals(value, changed[i]));
      });
  }
  return undefined;
}

function itemOf(of: unknown, key: unknown): unknown {
  const value = of instanceof ArgumentsText ? of.dict : of;
  if (value instanceof Map) return value.get(keyOf(key));
  const at = typeof key === "bigint" || typeof key === "boolean" ? toIndex(BigInt(key)) : null;
  if (at === null) return undefined;
  if (typeof value === "string") return charAt(value, at);
  if (value instanceof Range) {
    const index = at < 0 ? at + value.length : at;
    return index >= 0 && index < value.length
      ? value.start + BigInt(index) * value.stride
      : undefined;
  }
  const list = Array.isArray(value) ? value : value instanceof Tuple ? value.items : null;
  return list?.at(at);
}

function missing(of: unknown, key: unknown): Undefined {
  const type = of === null ? "None" : of instanceof Dynamic ? of.name : `${typeName(of)} object`;
  return new Undefined(
    typeof key === "string"
      ? `${repr(type)} has no attribute ${repr(key)}`
      : `${type} has no element ${repr(key)}`,
  );
}

const usedNames = new WeakMap<Macro, Set<string>>();

/** Whether a macro's body names something. */
function uses(macro: Macro, name: string): boolean {
  let names = usedNames.get(macro);
  if (names === undefined) {
    names = new Set();
    collectNames(macro.body, names);
    usedNames.set(macro, names);
  }
  return names.has(name);
}

function collectNames(node: unknown, names: Set<string>): void {
  if (typeof node !== "object" || node === null) return;
  const { type, name } = node as { type?: string; name?: string };
  if (type === "name" && name !== undefined) names.add(name);
  for (const child of Object.values(node)) collectNames(child, names);
}
