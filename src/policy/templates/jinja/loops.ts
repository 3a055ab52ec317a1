/** What statements see of the loops and macros around them. */
import type { Macro } from "./nodes.ts";
import { Callable, equals, JinjaError, Undefined } from "./values.ts";

/** An attribute of `loop`. */
export function loopValue(
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

const usedNames = new WeakMap<Macro, Set<string>>();

/** Whether a macro's body names something. */
export function uses(macro: Macro, name: string): boolean {
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
