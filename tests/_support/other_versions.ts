/**
 * Loaded before the tests of a run on one named SGLang version (`deno task test:real --version X`):
 * a test whose name tells of another version is not run, and is counted as ignored.
 */
import { namesOtherVersion } from "../../scripts/sglang_cpu/home.ts";
import { versionUnderTest } from "./real.ts";

const version = versionUnderTest();
if (version !== undefined) {
  const test = new Proxy(Deno.test, {
    apply(target, self, args: Parameters<typeof Deno.test>) {
      const name = args.map((arg: unknown) => nameIn(arg)).find((name) => name !== undefined) ?? "";
      return Reflect.apply(namesOtherVersion(name, version) ? target.ignore : target, self, args);
    },
  });
  Object.defineProperty(Deno, "test", { value: test });
}

/** A test is registered as a name and a function, or as an object with a name, or as a function. */
function nameIn(arg: unknown): string | undefined {
  if (typeof arg === "string") return arg;
  return (arg as { name?: string } | undefined)?.name || undefined;
}
