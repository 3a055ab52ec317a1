/**
 * Native memory by address. Addresses are bigints: a scoped `--allow-ffi=<path>` forbids
 * `Deno.UnsafePointer` and its kin, but not calls that take and give addresses as numbers.
 *
 * @module
 */
import { ValidationError } from "../src/errors.ts";
import type { libcSymbols } from "./libc/symbols.ts";

/** An address in this process or on its device. */
export type Address = bigint;

/** The null pointer. */
export const nullAddress: Address = 0n;

/** The functions of the C library, from whichever library's handle they were looked up. */
export type LibcCalls = Deno.DynamicLibrary<typeof libcSymbols>["symbols"];

/** Reads and writes native memory through the C library's own copy functions. */
export class Memory {
  readonly #libc: LibcCalls;

  /** Uses the given functions. */
  constructor(libc: LibcCalls) {
    this.#libc = libc;
  }

  /**
   * Address of a JavaScript buffer. The address does not keep the buffer alive: whoever stores it
   * stores the buffer too.
   */
  addressOf(buffer: Uint8Array<ArrayBufferLike>): Address {
    const bytes = buffer as Uint8Array<ArrayBuffer>;
    return this.#libc.memmove(bytes, bytes, 0n);
  }

  /** Copies `byteLength` bytes at `address` into a new array. */
  read(address: Address, byteLength: number): Uint8Array<ArrayBuffer> {
    if (address === nullAddress) throw new ValidationError("Cannot read at the null address");
    const bytes = new Uint8Array(byteLength);
    this.#libc.peek(bytes, address, BigInt(byteLength));
    return bytes;
  }

  /** Copies `bytes` to `address`. */
  write(address: Address, bytes: Uint8Array<ArrayBuffer>): void {
    if (address === nullAddress) throw new ValidationError("Cannot write at the null address");
    this.#libc.poke(address, bytes, BigInt(bytes.byteLength));
  }

  /** Copies between two addresses of this process. */
  copy(target: Address, source: Address, byteLength: number): void {
    if (byteLength > 0) this.#libc.copy(target, source, BigInt(byteLength));
  }

  /** Copies on a thread of the pool, while this one goes on; both places must stay meanwhile. */
  async copyAside(target: Address, source: Address, byteLength: number): Promise<void> {
    if (byteLength > 0) await this.#libc.copyAside(target, source, BigInt(byteLength));
  }

  /** The C string at `address`; the empty string for the null pointer. */
  cString(address: Address): string {
    if (address === nullAddress) return "";
    const length = Number(this.#libc.strlen(address));
    return new TextDecoder().decode(this.read(address, length));
  }

  /** Sets a variable of the C environment, which native libraries read, unless it is set. */
  setDefaultEnvironment(name: string, value: string): void {
    this.#libc.setenv(toCString(name), toCString(value), 0);
  }
}

/** The text in UTF-8 with a closing zero byte. */
export function toCString(text: string): Uint8Array<ArrayBuffer> {
  return new TextEncoder().encode(`${text}\0`);
}
