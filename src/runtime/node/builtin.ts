/** The modules of Node that are used. */
interface Builtins {
  readonly "node:fs": typeof import("node:fs");
  readonly "node:fs/promises": typeof import("node:fs/promises");
  readonly "node:http": typeof import("node:http");
  readonly "node:net": typeof import("node:net");
  readonly "node:process": typeof import("node:process");
  readonly "node:tls": typeof import("node:tls");
}

/**
 * A module of Node, got when it is needed: an import at the top would be loaded in Deno, too, and
 * could not be in a browser.
 */
export function builtin<Name extends keyof Builtins>(name: Name): Builtins[Name] {
  const { process } = globalThis as unknown as {
    readonly process: { getBuiltinModule(name: string): Builtins[Name] };
  };
  return process.getBuiltinModule(name);
}
