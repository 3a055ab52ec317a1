/**
 * What Node may lack, by the names that the sources use. The build puts these in the place of the
 * globals; nothing is changed that others see.
 */
import { NeedsDenoError } from "../../src/errors.ts";

const globals = globalThis as unknown as Record<string, unknown>;

/** Each call of Deno that no other runtime has says so. */
const noDeno = new Proxy({}, {
  get(_, name) {
    throw new NeedsDenoError(`Deno.${String(name)}`);
  },
});

export const Deno = globals["Deno"] ?? noDeno;

type Closing = () => void | PromiseLike<void>;

/** What is common to both stacks: who ends it calls these from the last to the first. */
class Stack {
  protected closings: Closing[] = [];
  protected isEnded = false;

  get disposed(): boolean {
    return this.isEnded;
  }

  use<T>(value: T): T {
    const owner = value as {
      [Symbol.asyncDispose]?(): PromiseLike<void>;
      [Symbol.dispose]?(): void;
    };
    const close = owner?.[Symbol.asyncDispose] ?? owner?.[Symbol.dispose];
    if (close !== undefined) this.defer(() => close.call(owner));
    else if (value !== null && value !== undefined) throw new TypeError("It cannot be disposed");
    return value;
  }

  adopt<T>(value: T, close: (value: T) => void | PromiseLike<void>): T {
    this.defer(() => close(value));
    return value;
  }

  defer(close: Closing): void {
    if (this.isEnded) throw new ReferenceError("The stack is disposed");
    this.closings.push(close);
  }

  move(): this {
    const moved = Object.create(Object.getPrototypeOf(this)) as this;
    moved.closings = this.closings;
    moved.isEnded = false;
    this.closings = [];
    this.isEnded = true;
    return moved;
  }

  protected take(): Closing[] {
    this.isEnded = true;
    return this.closings.splice(0).reverse();
  }
}

/** As the two of JavaScript: of several errors the last holds the others. */
function together(error: unknown, earlier: { readonly error: unknown } | undefined): unknown {
  if (earlier === undefined) return error;
  return Object.assign(new Error("An error was suppressed during disposal"), {
    name: "SuppressedError",
    error,
    suppressed: earlier.error,
  });
}

class NodeDisposableStack extends Stack {
  dispose(): void {
    let failed: { readonly error: unknown } | undefined;
    for (const close of this.take()) {
      try {
        close();
      } catch (error) {
        failed = { error: together(error, failed) };
      }
    }
    if (failed !== undefined) throw failed.error;
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}

class NodeAsyncDisposableStack extends Stack {
  async disposeAsync(): Promise<void> {
    let failed: { readonly error: unknown } | undefined;
    for (const close of this.take()) {
      try {
        await close();
      } catch (error) {
        failed = { error: together(error, failed) };
      }
    }
    if (failed !== undefined) throw failed.error;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.disposeAsync();
  }
}

/** Nothing is one of these where Node has none; Node 24 has them. */
class NoFloat16Array {
  constructor() {
    throw new NeedsDenoError("Float16Array (or Node 24 and later)");
  }
}

export const DisposableStack = globals["DisposableStack"] ?? NodeDisposableStack;
export const AsyncDisposableStack = globals["AsyncDisposableStack"] ?? NodeAsyncDisposableStack;
export const Float16Array = globals["Float16Array"] ?? NoFloat16Array;
