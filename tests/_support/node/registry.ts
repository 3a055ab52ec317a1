/** Tests of a file that is loaded, by the forms of `Deno.test` that this project uses. */

/** What a test gets. */
export interface TestContext {
  readonly name: string;
  step(name: string, run: (context: TestContext) => void | Promise<void>): Promise<boolean>;
}

/** A test that waits for its turn. */
export interface Registered {
  readonly name: string;
  readonly ignore: boolean;
  readonly run: (context: TestContext) => void | Promise<void>;
}

type Run = Registered["run"];
interface Definition {
  readonly name?: string;
  readonly ignore?: boolean;
  readonly fn?: Run;
}

let tests: Registered[] = [];
let after: (() => void | Promise<void>)[] = [];

/** `Deno.test`. */
export function test(first: string | Definition, second?: Definition | Run, third?: Run): void {
  const definition = typeof first === "object" ? first : typeof second === "object" ? second : {};
  const run = third ?? (typeof second === "function" ? second : definition.fn!);
  const name = typeof first === "string" ? first : definition.name ?? run.name;
  tests.push({ name, run, ignore: definition.ignore ?? false });
}
test.afterAll = (work: () => void | Promise<void>): void => {
  after.push(work);
};

/** Gives out what was registered since the last call. */
export function take(): { readonly tests: Registered[]; readonly after: typeof after } {
  const taken = { tests, after };
  tests = [];
  after = [];
  return taken;
}
