/** Filters of lists, and of whatever else has entries. */
import { Arguments } from "./arguments.ts";
import { binary } from "./operators.ts";
import { dumps } from "./json.ts";
import { toText } from "./text.ts";
import {
  ArgumentsText,
  compare,
  equals,
  isTrue,
  iterate,
  JinjaError,
  keyOf,
  lengthOf,
  OneTime,
  Tuple,
  typeName,
  Undefined,
} from "./values.ts";
import { type Filter, ignoringCase, items, itemsOrNone, reader, type Tools } from "./filter.ts";

function sorted(
  list: readonly unknown[],
  key: (value: unknown) => unknown,
  isReversed: boolean,
  { budget }: Tools,
): unknown[] {
  const keyed = list.map((value) => ({ value, key: key(value) }));
  keyed.sort((a, b) => (budget.step(), isReversed ? compare(b.key, a.key) : compare(a.key, b.key)));
  return keyed.map(({ value }) => value);
}

/** `select`, `reject` and their forms with an attribute. */
function chooser(isKept: boolean, withAttribute: boolean): Filter {
  return (value, { args, named }, tools) => {
    if (withAttribute && args.length === 0) {
      throw new JinjaError("FilterArgumentError", "Missing parameter for attribute name");
    }
    const read = withAttribute ? reader(args[0], tools) : (item: unknown) => item;
    const [name, ...rest] = withAttribute ? args.slice(1) : args;
    const isTrueFor = (item: unknown) =>
      name === undefined ? isTrue(item) : tools.test(toText(name), item, { args: rest, named });
    return new OneTime(
      itemsOrNone(value, tools).filter((item) => isTrueFor(read(item)) === isKept),
    );
  };
}

function extreme(sign: 1 | -1): Filter {
  return (value, given, tools) => {
    const args = new Arguments("max", ["case_sensitive", "attribute"], given);
    const fold = ignoringCase(args.get("case_sensitive", false));
    const read = reader(args.get("attribute"), tools);
    const list = items(value, tools);
    if (list.length === 0) return new Undefined("No aggregated item, sequence was empty.");
    return list.reduce((best, item) =>
      compare(fold(read(item)), fold(read(best))) * sign > 0 ? item : best
    );
  };
}

function reversible(value: unknown): readonly unknown[] {
  if (!(value instanceof OneTime)) return iterate(value);
  throw new JinjaError("TypeError", `'${value.name}' object is not reversible`);
}

const length: Filter = (value) => BigInt(lengthOf(value));

/** The filters by name. */
export const sequenceFilters: Readonly<Record<string, Filter>> = {
  batch(value, given, tools) {
    const args = new Arguments("batch", ["linecount", "fill_with"], given, 1);
    const size = args.integer("linecount");
    const list = items(value, tools);
    tools.budget.make(size);
    if (size < 1) throw new JinjaError("ValueError", "batch needs a positive number");
    const rows: unknown[][] = [];
    for (let at = 0; at < list.length; at += size) rows.push(list.slice(at, at + size));
    const last = rows.at(-1);
    const fill = args.get("fill_with");
    if (last !== undefined && fill !== null) { while (last.length < size) last.push(fill); }
    return new OneTime(rows);
  },
  count: length,
  dictsort(value, given, tools) {
    const args = new Arguments("dictsort", ["case_sensitive", "by", "reverse"], given);
    const place = args.get("by", "key") === "value" ? 1 : 0;
    const fold = ignoringCase(args.get("case_sensitive", false));
    if (!(value instanceof Map)) {
      if (value instanceof Undefined) value.fail();
      throw new JinjaError("TypeError", `dictsort needs a dict, not ${typeName(value)}`);
    }
    const pairs = [...value].map((pair) => new Tuple(pair));
    const key = (pair: unknown) => fold((pair as Tuple).items[place]);
    return sorted(pairs, key, isTrue(args.get("reverse", false)), tools);
  },
  first(value, _, tools) {
    if (value instanceof OneTime) {
      const next = value.next();
      return next === null ? new Undefined("No first item, sequence was empty.") : next.value;
    }
    const list = items(value, tools);
    return list.length === 0 ? new Undefined("No first item, sequence was empty.") : list[0];
  },
  groupby(value, given, tools) {
    const args = new Arguments("groupby", ["attribute", "default", "case_sensitive"], given, 1);
    const fold = ignoringCase(args.get("case_sensitive", false));
    const read = reader(args.get("attribute"), tools, args.get("default"));
    const key = (item: unknown) => fold(read(item));
    const groups: { key: unknown; first: unknown; list: unknown[] }[] = [];
    for (const item of sorted(items(value, tools), key, false, tools)) {
      const last = groups.at(-1);
      if (last !== undefined && equals(last.key, key(item))) last.list.push(item);
      else groups.push({ key: key(item), first: read(item), list: [item] });
    }
    return groups.map(({ first, list }) => new Group(first, list));
  },
  items(value) {
    if (value instanceof Undefined) return new OneTime([]);
    const dict = value instanceof ArgumentsText ? value.dict : value;
    if (dict instanceof Map) return new OneTime([...dict].map((pair) => new Tuple(pair)));
    throw new JinjaError("TypeError", "Can only get item pairs from a mapping.");
  },
  join(value, given, tools) {
    const args = new Arguments("join", ["d", "attribute"], given);
    const read = reader(args.get("attribute"), tools);
    const separator = toText(args.get("d", ""));
    let size = 0;
    const parts = items(value, tools).map((item) => {
      const part = toText(read(item));
      size += part.length + separator.length;
      tools.budget.make(size);
      return part;
    });
    return parts.join(separator);
  },
  last(value, _, tools) {
    reversible(value);
    const list = items(value, tools);
    return list.length === 0 ? new Undefined("No last item, sequence was empty.") : list.at(-1);
  },
  length,
  list: (value, _, tools) => [...items(value, tools)],
  map(value, { args, named }, tools) {
    const list = itemsOrNone(value, tools);
    if (args.length === 0 && named.has("attribute")) {
      const extra = [...named.keys()].find((name) => name !== "attribute" && name !== "default");
      if (extra !== undefined) {
        throw new JinjaError("FilterArgumentError", `Unexpected keyword argument '${extra}'`);
      }
      const read = reader(named.get("attribute"), tools, named.get("default"));
      return new OneTime(list.map(read));
    }
    const [name, ...rest] = args;
    if (name === undefined) {
      throw new JinjaError("FilterArgumentError", "map requires a filter argument");
    }
    return new OneTime(list.map((item) => tools.filter(toText(name), item, { args: rest, named })));
  },
  max: extreme(1),
  min: extreme(-1),
  reject: chooser(false, false),
  rejectattr: chooser(false, true),
  reverse(value, _, tools) {
    if (typeof value === "string") {
      tools.budget.each(value.length);
      return Array.from(value).reverse().join("");
    }
    const list = [...items(value, tools)].reverse();
    return value instanceof OneTime ? list : new OneTime(list, "list_reverseiterator");
  },
  select: chooser(true, false),
  selectattr: chooser(true, true),
  slice(value, given, tools) {
    const args = new Arguments("slice", ["slices", "fill_with"], given, 1);
    const slices = args.integer("slices");
    tools.budget.make(slices);
    const list = items(value, tools);
    const size = Math.floor(list.length / slices);
    const larger = list.length % slices;
    const rows: unknown[][] = [];
    for (let i = 0, at = 0; i < slices; i++) {
      const end = at + size + (i < larger ? 1 : 0);
      const row = list.slice(at, end);
      if (args.get("fill_with") !== null && i >= larger) row.push(args.get("fill_with"));
      rows.push(row);
      at = end;
    }
    return new OneTime(rows);
  },
  sort(value, given, tools) {
    const args = new Arguments("sort", ["reverse", "case_sensitive", "attribute"], given);
    const fold = ignoringCase(args.get("case_sensitive", false));
    const attribute = args.get("attribute");
    const reads = typeof attribute === "string"
      ? attribute.split(",").map((part) => reader(part, tools))
      : [reader(attribute, tools)];
    // A list even of one: two entries without the attribute are equal then, not in no order.
    const key = (item: unknown) => reads.map((read) => fold(read(item)));
    return sorted(items(value, tools), key, isTrue(args.get("reverse", false)), tools);
  },
  sum(value, given, tools) {
    const args = new Arguments("sum", ["attribute", "start"], given);
    const read = reader(args.get("attribute"), tools);
    const start = args.get("start", 0n);
    if (typeof start === "string") {
      throw new JinjaError("TypeError", "sum() can't sum strings [use ''.join(seq) instead]");
    }
    return items(value, tools).reduce(
      (total, item) => binary("+", total, read(item), tools.budget),
      start,
    );
  },
  unique(value, given, tools) {
    const args = new Arguments("unique", ["case_sensitive", "attribute"], given);
    const fold = ignoringCase(args.get("case_sensitive", false));
    const read = reader(args.get("attribute"), tools);
    const seen = new Set<unknown>();
    return new OneTime(
      items(value, tools).filter((item) => {
        const found = keyOf(fold(read(item)));
        tools.budget.work(typeof found === "string" ? found.length : 1);
        const key = typeof found === "string"
          ? `s${found}`
          : found instanceof Tuple
          ? dumps(found)
          : found;
        if (seen.has(key)) return false;
        seen.add(key);
        return true;
      }),
    );
  },
};

/** A group of `groupby`: a tuple whose entries have names. */
export class Group extends Tuple {
  /** Makes it. */
  constructor(readonly grouper: unknown, readonly list: readonly unknown[]) {
    super([grouper, list]);
  }
}
