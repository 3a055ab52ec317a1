import { readLines } from "../../src/internal/lines.ts";

/** A program in Python that answers orders, one JSON a line each, with seconds of the processor. */
export interface Beside {
  /** Milliseconds of the processor that an order took. */
  ask(order: object): Promise<number>;
  [Symbol.asyncDispose](): Promise<void>;
}

/** Starts one of the programs beside this file. */
export function startPython(python: string, file: string): Beside {
  const child = new Deno.Command(python, {
    args: [new URL(file, import.meta.url).pathname],
    stdin: "piped",
    stdout: "piped",
  }).spawn();
  const answers = readLines(child.stdout);
  const orders = child.stdin.getWriter();
  return {
    async ask(order) {
      await orders.write(new TextEncoder().encode(`${JSON.stringify(order)}\n`));
      const { value } = await answers.next();
      if (value === undefined) throw new Error(`${file} failed; see what it wrote above`);
      return JSON.parse(value) * 1000;
    },
    async [Symbol.asyncDispose]() {
      await orders.close();
      await child.status;
    },
  };
}
