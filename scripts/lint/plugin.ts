/** Lint rules of this project. */

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
