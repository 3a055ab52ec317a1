/**
 * Ownership of native things: freed once, refused after that, and told when forgotten.
 *
 * @module
 */
import { emitWarning } from "node:process";
import { StateError } from "../src/errors.ts";
import type { Address } from "./memory.ts";

/** Called with the name of an owned thing that was collected without being freed. */
export type LeakReporter = (what: string) => void;

let reportLeak: LeakReporter = (what) => {
  emitWarning(`${what} was dropped without dispose(); its native memory is lost`, "SGLangLeak");
};

/** Sets who hears of leaks (default: a process warning of type `SGLangLeak`); gives the former. */
export function setLeakReporter(reporter: LeakReporter): LeakReporter {
  const former = reportLeak;
  reportLeak = reporter;
  return former;
}

const forgotten = new FinalizationRegistry<string>((what) => reportLeak(what));

/** A native thing with one owner. Subclasses say how it is freed. */
export abstract class OwnedHandle implements Disposable {
  /** What it is, for messages. */
  readonly what: string;
  readonly #address: Address;
  #freed = false;

  /** Takes ownership of what lies at `address`. */
  constructor(what: string, address: Address) {
    this.what = what;
    this.#address = address;
    forgotten.register(this, what, this);
  }

  /** The address. @throws {StateError} It was freed. */
  get address(): Address {
    if (this.#freed) throw new StateError(`${this.what} was used after it was freed`);
    return this.#address;
  }

  /** Whether it was freed. */
  get freed(): boolean {
    return this.#freed;
  }

  /** Frees it; a second call does nothing. */
  [Symbol.dispose](): void {
    if (this.#freed) return;
    this.#freed = true;
    forgotten.unregister(this);
    this.release(this.#address);
  }

  /** Gives up ownership without freeing, when someone else has freed it. */
  disown(): void {
    this.#freed = true;
    forgotten.unregister(this);
  }

  /** Frees what lies at `address`. */
  protected abstract release(address: Address): void;
}
