/**
 * Calls whose arguments stand between tags as they are. An argument may hold anything, also a call:
 * it goes to the closing tag that is its own. Where that is not certain, all the rest is a fault.
 */
import {
  fault,
  type Found,
  namedCall,
  type Reading,
  taggedCall,
  withoutEndTokens,
} from "./answer.ts";
import { jsonBlock } from "./json_block.ts";
import { looseValue, type ParameterKinds } from "./parameter_kinds.ts";
import type { Scanner } from "./scanner.ts";

/** Reads `<function=name><parameter=key>value</parameter></function>`; `null` where it is none. */
export function readXml(
  scanner: Scanner,
  start: number,
  { isFramed, kinds, close }: {
    isFramed: boolean;
    kinds: ParameterKinds;
    /** What ends the frame; default `</tool_call>`. */
    close?: RegExp;
  },
): Reading | null {
  const reader = new TagReader(scanner, start);
  const found: Found[] = [];
  for (
    let head = reader.take(/\s*<function=([^<>]*)>/y);
    head !== null;
    head = isFramed ? reader.take(/\s*<function=([^<>]*)>/y) : null
  ) {
    const name = head.trim();
    const call = reader.isAt(/\s*\{/y)
      ? jsonArguments(reader, name)
      : parameters(reader, name, kinds);
    if (typeof call === "string") return reader.broken(call);
    found.push(call);
  }
  if (found.length === 0) {
    return reader.isAt(/\s*<function=/y) ? reader.broken("the call has no name") : null;
  }
  if (isFramed && !reader.closes(close)) return reader.broken("something stands behind the call");
  return { end: reader.at, found, closes: ["</parameter>", "</function>"] };
}

/** Reads `name<arg_key>key</arg_key><arg_value>value</arg_value>`; `null` where it is none. */
export function readGlm(scanner: Scanner, start: number, kinds: ParameterKinds): Reading | null {
  const reader = new TagReader(scanner, start);
  // Hunyuan ends the name with a mark.
  if (!reader.isAt(/\s*[\w.-]+\s*(?:<tool_sep>\s*(?:<arg_key>|<\/tool_call>)|<arg_key>)/y)) {
    return null;
  }
  const name = reader.take(/\s*([\w.-]+)\s*(?:<tool_sep>)?/y)!;
  const given: Record<string, unknown> = {};
  for (
    let key = reader.take(/\s*<arg_key>([^<>]*)<\/arg_key>\s*<arg_value>/y);
    key !== null;
    key = reader.take(/\s*<arg_key>([^<>]*)<\/arg_key>\s*<arg_value>/y)
  ) {
    const value = reader.value(/<arg_value>|<\/arg_value>/g);
    if (value === null) return reader.broken("an argument has no value");
    given[key.trim()] = looseValue(value, kinds(name, key.trim()));
  }
  if (!reader.closes()) return reader.broken("an argument has no value");
  const text = scanner.text.slice(start, reader.at);
  return {
    end: reader.at,
    found: [taggedCall(name, given, text)],
    closes: ["</arg_value>"],
  };
}

function parameters(reader: TagReader, name: string, kinds: ParameterKinds): Found | string {
  const start = reader.at;
  const given: Record<string, unknown> = {};
  while (reader.take(/\s*(<\/function>)/y) === null) {
    const key = reader.take(/\s*<parameter=([^<>]*)>/y)?.trim();
    if (key === undefined) return "something stands between its parameters";
    const value = reader.value(/<parameter(?:=|\s+name=)|<\/parameter>/g);
    if (value === null) return `the parameter ${key} has no end`;
    given[key] = looseValue(value.replace(/^\n/, "").replace(/\n$/, ""), kinds(name, key));
  }
  return taggedCall(name, given, reader.since(start));
}

/** Llama 3.1 writes its own tools so. */
function jsonArguments(reader: TagReader, name: string): Found {
  const body = reader.json("</function>", ["<function="]);
  return namedCall(name, withoutEndTokens(body), body);
}

/** Reads what stands between tags from left to right. */
export class TagReader {
  /** Where it is. */
  at: number;
  readonly #scanner: Scanner;
  readonly #start: number;

  /** Begins at a place. */
  constructor(scanner: Scanner, start: number) {
    this.#scanner = scanner;
    this.#start = start;
    this.at = start;
  }

  /** Whether something stands here. */
  isAt(sticky: RegExp): boolean {
    sticky.lastIndex = this.at;
    return sticky.test(this.#scanner.text);
  }

  /** Goes behind what is expected, and gives its group; `null` where something else stands. */
  take(sticky: RegExp): string | null {
    sticky.lastIndex = this.at;
    const found = sticky.exec(this.#scanner.text);
    if (found === null) return null;
    this.#scanner.looked += found[0].length;
    this.at += found[0].length;
    return found[1]!;
  }

  /** A value to the closing tag that is its own: a quoted pair of tags belongs to the value. */
  value(tags: RegExp): string | null {
    const { text } = this.#scanner;
    const start = this.at;
    tags.lastIndex = start;
    let depth = 1;
    for (let found = tags.exec(text); found !== null; found = tags.exec(text)) {
      depth += found[0].startsWith("</") ? -1 : 1;
      if (depth > 0) continue;
      this.at = found.index + found[0].length;
      this.#scanner.looked += this.at - start;
      return text.slice(start, found.index);
    }
    this.#scanner.looked += text.length - start;
    return null;
  }

  /** What stands from here to a mark outside of texts. */
  json(close: string, opens: readonly string[]): string {
    const { body, end } = jsonBlock(this.#scanner, this.at, { close, opens });
    this.at = end;
    return body;
  }

  /** Whether the frame of a call ends here: with its mark, or with the text. */
  closes(mark = /\s*(<\/tool_call>)/y): boolean {
    if (this.take(mark) !== null) return true;
    if (withoutEndTokens(this.#scanner.text.slice(this.at)) !== "") return false;
    this.at = this.#scanner.text.length;
    return true;
  }

  /** What was read since a place. */
  since(start: number): string {
    return this.#scanner.text.slice(start, this.at);
  }

  /** Nobody knows where the call ends: what follows may be a part of it, and is not run. */
  broken(reason: string): Reading {
    const { text } = this.#scanner;
    return { end: text.length, found: [fault(text.slice(this.#start), reason)] };
  }
}
