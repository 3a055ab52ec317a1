/** Expressions mean what they mean in Oniguruma, with Ruby's syntax. */
import { deepEqual, throws } from "node:assert/strict";
import fc from "fast-check";
import {
  matchesOf,
  onigPattern,
  textPattern,
} from "../../../src/internal/token_encoder/onig_pattern.ts";

const found = (source: string, text: string): string[] =>
  [...matchesOf(onigPattern(source), text)].map(([start, end]) => text.slice(start, end));

/** An expression, a text, and what is found in it. */
const cases: readonly (readonly [string, string, readonly string[]])[] = [
  // Groups.
  ["a(?#a comment)b", "ab a", ["ab"]],
  ["(?>a+)b", "aaab", ["aaab"]],
  ["(?>a+)ab", "aaab", []],
  ["(?i:ab)c", "ABc abC", ["ABc"]],
  ["(?i)ab(?-i:c)", "ABc abC", ["ABc"]],
  ["a(?i)b|c", "aB C ac", ["aB", "ac"]],
  ["(?m:a.b)", "a\nb", ["a\nb"]],
  ["a.b", "a\nb axb", ["axb"]],
  ["(?x: a  b # both\n c )", "abc", ["abc"]],
  ["(?<year>\\d+)-\\k<year>", "12-12 1-2", ["12-12"]],
  ["(a|b)\\1", "aa ab bb", ["aa", "bb"]],
  ["(?<=a)b(?=c)", "abc abd", ["b"]],
  ["(?<!a)b(?!c)", "abd bc bd", ["b"]],
  // How often.
  ["a++", "aaa", ["aaa"]],
  ["a++a", "aaa", []],
  ["a*?b", "aab", ["aab"]],
  ["a?+a", "a", []],
  ["a{2}", "aaaaa", ["aa", "aa"]],
  ["a{,2}b", "aaab b", ["aab", "b"]],
  ["a{2,}", "a aaa", ["aaa"]],
  // Behind an interval a plus repeats; it does not make it possessive.
  ["a{2}+", "aaaaa", ["aaaa"]],
  ["a{x}", "a{x}", ["a{x}"]],
  // Sets of characters.
  ["[[:alpha:]]+", "ab1 ü", ["ab", "ü"]],
  ["[[:^alpha:]]+", "ab1 ", ["1 "]],
  ["[[:punct:]]", "a!$b", ["!", "$"]],
  ["[a-z&&[^aeiou]]+", "hello", ["h", "ll"]],
  ["[^a-c]+", "abcde", ["de"]],
  ["[]a]+", "a]b", ["a]"]],
  ["[a-]+", "a-b", ["a-"]],
  ["[\\b]", "\b", ["\b"]],
  ["\\h+", "fAg9", ["fA", "9"]],
  ["\\H+", "fxyg", ["xyg"]],
  ["\\p{L}+", "aé1", ["aé"]],
  ["\\P{L}+", "aé1", ["1"]],
  ["\\p{^L}+", "aé1", ["1"]],
  ["\\W+", "a-_ b", ["-", " "]],
  // Characters by their numbers, and signs.
  ["\\x41\\x{42}\\u0043", "ABC", ["ABC"]],
  ["\\0", "a\0", ["\0"]],
  ["\\t\\n\\r\\f\\v\\a\\e", "\t\n\r\f\v\x07\x1b", ["\t\n\r\f\v\x07\x1b"]],
  ["\\.\\-\\/", ".-/", [".-/"]],
  // Places.
  ["^b", "a\nb", ["b"]],
  ["^", "a\n", [""]],
  ["a$", "a\nba", ["a", "a"]],
  ["\\Aa", "a\na", ["a"]],
  ["a\\z", "a\na\n", []],
  ["a\\Z", "a\na\n", ["a"]],
  ["\\bab\\b", "ab abc", ["ab"]],
  ["\\Bb", "ab b", ["b"]],
  ["\\R", "a\r\nb\u2028", ["\r\n", "\u2028"]],
  ["\\Ga", "aa", ["a", "a"]],
  // An empty match right behind another does not count, and none is within a pair of units.
  ["a*", "aab", ["aa", ""]],
  ["x*", "😀", ["", ""]],
];

for (const [source, text, expected] of cases) {
  Deno.test(`${JSON.stringify(source)} in ${JSON.stringify(text)}`, () => {
    deepEqual(found(source, text), expected);
  });
}

Deno.test("what is no expression, or none that is known here, is refused", () => {
  for (
    const source of [
      "(",
      "a)",
      "(?",
      "(?y:a)",
      "[a",
      "[",
      "\\",
      "\\p{Nothing}",
      "\\y",
      "\\x{",
      "[z-a]",
    ]
  ) {
    throws(() => onigPattern(source), SyntaxError, source);
  }
  throws(() => onigPattern("a".repeat(65_537)), /too long/);
});

Deno.test("a plain text finds itself, whatever signs it has", () => {
  const texts = fc.string({ unit: "binary", minLength: 1, maxLength: 8 });
  fc.assert(fc.property(texts, fc.nat(3), (text, times) => {
    const [first] = matchesOf(textPattern(text), text.repeat(times));
    deepEqual(first, times === 0 ? undefined : [0, text.length]);
  }));
});
