/** Lint rules of this project. */
import { analyse } from "scslre";

/** What reads or waits for the real time. */
const realTime = [
  'CallExpression[callee.name="setTimeout"]',
  'CallExpression[callee.name="setInterval"]',
  'CallExpression[callee.object.name="performance"][callee.property.name="now"]',
  'CallExpression[callee.object.name="AbortSignal"][callee.property.name="timeout"]',
];

/** What changes the process for all tests that run in it. */
const processState = [
  'CallExpression[callee.object.object.name="Deno"][callee.object.property.name="env"][callee.property.name=/^(set|delete)$/]',
  'CallExpression[callee.object.name="Deno"][callee.property.name=/^(chdir|umask)$/]',
];

/** Why a pattern takes more than linear time on some text, in a few words for each reason. */
export function patternFaults(pattern: string, flags: string): string[] {
  const { reports } = analyse(new RegExp(pattern, flags), {
    // Also what is only slow as it is tried again at each place.
    reportTypes: { Move: true, Self: true, Trade: true },
    assumeRejectingSuffix: false,
  });
  return reports.map(({ type }) =>
    type === "Move"
      ? "This pattern begins again at each place of a long run: let (?<!…) or ^ say where it begins"
      : "Two repeats of this pattern can share the same characters in many ways: keep them apart"
  );
}

const plugin: Deno.lint.Plugin = {
  name: "sglang-rl",
  rules: {
    /** Native code is opened under `ffi/` only. */
    "dlopen-in-ffi-only": {
      create(context) {
        if (/\/(ffi|tests|bench|scripts)\//.test(context.filename)) return {};
        return {
          'MemberExpression[object.name="Deno"][property.name="dlopen"]'(node) {
            context.report({ node, message: "Deno.dlopen belongs under ffi/" });
          },
        };
      },
    },
    /** `fetch` repeats requests unseen and follows the proxy of the environment. */
    "own-http-in-src": {
      create(context) {
        if (!isInSrc(context.filename)) return {};
        return {
          'CallExpression[callee.name="fetch"]'(node) {
            context.report({ node, message: "Use HttpPool of src/http (docs/decisions/http.md)" });
          },
        };
      },
    },
    /** Code takes its time from a clock, so that a test can drive it. */
    "clock-in-src": {
      create(context) {
        if (!isInSrc(context.filename) || context.filename.endsWith("/internal/clock.ts")) {
          return {};
        }
        return everyOne(
          realTime,
          (node) =>
            context.report({ node, message: "Take the time from a Clock (src/internal/clock.ts)" }),
        );
      },
    },
    /**
     * A pattern reads any text in a time in proportion to its length: models, servers and files write
     * the texts, and one of some thousand characters can hold a process for ever.
     */
    "linear-patterns": {
      create(context) {
        if (!isInSrc(context.filename)) return {};
        return {
          Literal(node) {
            const { regex } = node as { regex?: { pattern: string; flags: string } };
            const [fault] = regex === undefined ? [] : patternFaults(regex.pattern, regex.flags);
            if (fault !== undefined) context.report({ node, message: fault });
          },
        };
      },
    },
    /** `told?.(await work())` does no work where nobody wants to be told. */
    "no-await-for-optional-call": {
      create(context) {
        return {
          CallExpression(node) {
            const isSkipped = node.optional &&
              node.arguments.some(({ type }) => type === "AwaitExpression");
            if (!isSkipped) return;
            const message = "Nothing is awaited where nobody is called: await it first";
            context.report({ node, message });
          },
        };
      },
    },
    /** Unit tests run beside each other in one process, which has one environment and one folder. */
    "no-process-state-in-unit-tests": {
      create(context) {
        if (!/\/tests\/unit\/.*_test\.ts$/.test(context.filename)) return {};
        return everyOne(processState, (node) =>
          context.report({
            node,
            message: "Other tests of this process would see it: hand it in as an argument",
          }));
      },
    },
    /** A unit test that waits for the real time fails on a busy machine. */
    "no-real-time-in-unit-tests": {
      create(context) {
        if (!/\/tests\/unit\//.test(context.filename)) return {};
        const more = [
          'ImportSpecifier[imported.name="sleep"]',
          'CallExpression[callee.object.name="Date"][callee.property.name="now"]',
        ];
        return everyOne([...realTime, ...more], (node) =>
          context.report({
            node,
            message: "Unit tests wait for events or drive a FakeClock (tests/_support/clock.ts)",
          }));
      },
    },
  },
};

function everyOne(
  selectors: readonly string[],
  report: (node: Deno.lint.Node) => void,
): Deno.lint.LintVisitor {
  return Object.fromEntries(selectors.map((selector) => [selector, report]));
}

/** The page of the dashboard runs in a browser, which has none of ours. */
function isInSrc(path: string): boolean {
  return /\/src\//.test(path) && !/\/src\/dashboard\/page\/\w+\.js$/.test(path);
}

export default plugin;
