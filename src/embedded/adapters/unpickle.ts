/**
 * A reader of pickles as SGLang's `SafeUnpickler` is one: plain values, and of Python's objects only
 * those of tensors. Opcodes of protocols 2 to 5, as Python and this library write them.
 */

/** A Python object by name. */
export interface PickledGlobal {
  readonly module: string;
  readonly name: string;
}

/** An instance of a class, with its fields. */
export interface PickledObject {
  readonly type: PickledGlobal;
  fields: Map<unknown, unknown>;
}

/** What a reader of pickles asks for. */
export interface UnpickleHooks {
  /** The result of a call; throws for what is not allowed. */
  readonly call: (callable: PickledGlobal, args: readonly unknown[]) => unknown;
  /** What a persistent id stands for. */
  readonly persistent?: (id: unknown) => unknown;
}

const MARK = Symbol("mark");

/** Reads one pickle; tells where it ends. Lists are arrays, dicts maps, bytes `Uint8Array`s. */
export function unpickle(
  bytes: Uint8Array,
  hooks: UnpickleHooks,
  start = 0,
): { readonly value: unknown; readonly end: number } {
  const reader = new Unpickler(bytes, hooks, start);
  const value = reader.run();
  return { value, end: reader.at };
}

class Unpickler {
  at: number;
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  readonly #hooks: UnpickleHooks;
  readonly #stack: unknown[] = [];
  readonly #memo = new Map<number, unknown>();

  constructor(bytes: Uint8Array, hooks: UnpickleHooks, start: number) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#hooks = hooks;
    this.at = start;
  }

  run(): unknown {
    for (;;) {
      const op = this.#byte();
      if (op === 0x2e) return this.#stack.pop();
      this.#step(op);
    }
  }

  #step(op: number): void {
    const stack = this.#stack;
    switch (op) {
      case 0x80: // PROTO
        return void this.#byte();
      case 0x95: // FRAME
        return void this.#take(8);
      case 0x28:
        return void stack.push(MARK);
      case 0x4e:
        return void stack.push(null);
      case 0x88:
        return void stack.push(true);
      case 0x89:
        return void stack.push(false);
      case 0x4b:
        return void stack.push(this.#byte());
      case 0x4d:
        return void stack.push(this.#number("getUint16", 2));
      case 0x4a:
        return void stack.push(this.#number("getInt32", 4));
      case 0x8a:
        return void stack.push(this.#long(this.#byte()));
      case 0x47: {
        const value = this.#view.getFloat64(this.at);
        this.at += 8;
        return void stack.push(value);
      }
      case 0x58:
        return void stack.push(this.#text(this.#number("getUint32", 4)));
      case 0x8c:
        return void stack.push(this.#text(this.#byte()));
      case 0x42:
        return void stack.push(this.#take(this.#number("getUint32", 4)));
      case 0x43:
        return void stack.push(this.#take(this.#byte()));
      case 0x8e:
        return void stack.push(
          this.#take(this.#number("getUint32", 4) + 2 ** 32 * this.#number("getUint32", 4)),
        );
      case 0x5d:
        return void stack.push([]);
      case 0x7d:
        return void stack.push(new Map());
      case 0x29:
        return void stack.push([]);
      case 0x74:
        return void stack.push(this.#toMark());
      case 0x85:
      case 0x86:
      case 0x87:
        return void stack.push(stack.splice(stack.length - (op - 0x84)));
      case 0x61: {
        const item = stack.pop();
        return void (stack.at(-1) as unknown[]).push(item);
      }
      case 0x65: {
        const items = this.#toMark();
        return void (stack.at(-1) as unknown[]).push(...items);
      }
      case 0x73: {
        const value = stack.pop(), key = stack.pop();
        return void (stack.at(-1) as Map<unknown, unknown>).set(key, value);
      }
      case 0x75: {
        const items = this.#toMark();
        const target = stack.at(-1) as Map<unknown, unknown>;
        for (let i = 0; i < items.length; i += 2) target.set(items[i], items[i + 1]);
        return;
      }
      case 0x63:
        return void stack.push({ module: this.#line(), name: this.#line() });
      case 0x93: {
        const name = stack.pop() as string, module = stack.pop() as string;
        return void stack.push({ module, name });
      }
      case 0x52: {
        const args = stack.pop() as unknown[], callable = stack.pop() as PickledGlobal;
        return void stack.push(this.#hooks.call(callable, args));
      }
      case 0x81: {
        stack.pop();
        const type = stack.pop() as PickledGlobal;
        return void stack.push({ type, fields: new Map() } satisfies PickledObject);
      }
      case 0x62: {
        const fields = stack.pop() as Map<unknown, unknown>;
        (stack.at(-1) as PickledObject).fields = fields;
        return;
      }
      case 0x51: {
        const id = stack.pop();
        if (this.#hooks.persistent === undefined) {
          throw new Error("A persistent id is not allowed here");
        }
        return void stack.push(this.#hooks.persistent(id));
      }
      case 0x71:
        return void this.#memo.set(this.#byte(), stack.at(-1));
      case 0x72:
        return void this.#memo.set(this.#number("getUint32", 4), stack.at(-1));
      case 0x94:
        return void this.#memo.set(this.#memo.size, stack.at(-1));
      case 0x68:
        return void stack.push(this.#memo.get(this.#byte()));
      case 0x6a:
        return void stack.push(this.#memo.get(this.#number("getUint32", 4)));
      default:
        throw new Error(`Opcode 0x${op.toString(16)} at ${this.at - 1} is not read`);
    }
  }

  #toMark(): unknown[] {
    const from = this.#stack.lastIndexOf(MARK);
    const items = this.#stack.splice(from);
    return items.slice(1);
  }

  #byte(): number {
    if (this.at >= this.#bytes.length) throw new Error("The pickle ends too early");
    return this.#bytes[this.at++]!;
  }

  #number(read: "getUint16" | "getInt32" | "getUint32", size: number): number {
    const value = this.#view[read](this.at, true);
    this.at += size;
    return value;
  }

  #long(size: number): bigint {
    let value = 0n;
    for (let i = 0; i < size; i++) value |= BigInt(this.#byte()) << BigInt(8 * i);
    return BigInt.asIntN(8 * size, value);
  }

  #take(length: number): Uint8Array {
    if (this.at + length > this.#bytes.length) throw new Error("The pickle ends too early");
    const part = this.#bytes.subarray(this.at, this.at + length);
    this.at += length;
    return part;
  }

  #text(length: number): string {
    return new TextDecoder().decode(this.#take(length));
  }

  #line(): string {
    const end = this.#bytes.indexOf(10, this.at);
    const text = this.#text(end - this.at);
    this.at = end + 1;
    return text;
  }
}
