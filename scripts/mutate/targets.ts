/** Which tests are nearest to which sources. */

/** A folder or file of sources, and the tests that should notice every change of it. */
export interface Target {
  readonly sources: string;
  readonly tests: readonly string[];
}

/** Weights and policy first: what goes wrong there goes wrong silently. The first match counts. */
export const TARGETS: readonly Target[] = [
  {
    sources: "src/weights/sync/names.ts",
    tests: [
      "tests/unit/weights/sender_test.ts",
      "tests/unit/weights/sender_failures_test.ts",
      "tests/unit/weights/tied_head_test.ts",
      "tests/unit/weights/names_test.ts",
    ],
  },
  {
    sources: "src/weights/sync/verify.ts",
    tests: [
      "tests/unit/weights/verify_test.ts",
      "tests/unit/weights/sender_test.ts",
      "tests/unit/weights/sender_failures_test.ts",
    ],
  },
  { sources: "src/weights/sync/plan.ts", tests: ["tests/unit/weights/plan_test.ts"] },
  {
    sources: "src/weights/fleet/lease.ts",
    tests: ["tests/unit/weights/lease_test.ts", "tests/unit/weights/marks_test.ts"],
  },
  {
    sources: "src/weights/fleet/mark.ts",
    tests: ["tests/unit/weights/lease_test.ts", "tests/unit/weights/marks_test.ts"],
  },
  {
    sources: "src/weights/options.ts",
    tests: ["tests/unit/weights/options_test.ts", "tests/unit/internal/option_names_test.ts"],
  },
  { sources: "src/weights", tests: ["tests/unit/weights"] },
  { sources: "src/policy/templates", tests: ["tests/unit/policy/templates"] },
  { sources: "src/policy", tests: ["tests/unit/policy"] },
  { sources: "src/rollout", tests: ["tests/unit/rollout", "tests/unit/policy"] },
  { sources: "src/collector/gate.ts", tests: ["tests/unit/collector/flow_test.ts"] },
  { sources: "src/collector", tests: ["tests/unit/collector"] },
  { sources: "src/engine", tests: ["tests/unit/engine"] },
  { sources: "src/client", tests: ["tests/unit/client", "tests/unit/http"] },
];

/** The tests of a source; `undefined` where none are named. */
export function testsOf(path: string): readonly string[] | undefined {
  return TARGETS.find(({ sources }) => path === sources || path.startsWith(`${sources}/`))?.tests;
}
