/**
 * Memory without a name that other processes of this user can map.
 *
 * @module
 */
import { LibraryError, PermissionError, StateError, ValidationError } from "../src/errors.ts";
import { messageOf } from "../src/internal/thrown.ts";
import { type Address, Memory, toCString } from "./memory.ts";
import { libcSymbols } from "./libc/symbols.ts";

/** Where the C library lies, glibc's and musl's, by architecture. */
const LIBC_PATHS = Deno.build.arch === "aarch64"
  ? ["/usr/lib/aarch64-linux-gnu/libc.so.6", "/lib64/libc.so.6", "/lib/libc.musl-aarch64.so.1"]
  : ["/usr/lib/x86_64-linux-gnu/libc.so.6", "/lib64/libc.so.6", "/lib/libc.musl-x86_64.so.1"];

const symbols = {
  ...libcSymbols,
  memfd_create: {
    parameters: [
      "buffer", // const char *name
      "u32", // unsigned int flags
    ],
    result: "i32",
  },
  ftruncate: {
    parameters: [
      "i32", // int fd
      "i64", // off_t length
    ],
    result: "i32",
  },
  fcntl: {
    parameters: [
      "i32", // int fd
      "i32", // int cmd
      "i32", // the only argument of F_ADD_SEALS
    ],
    result: "i32",
  },
  mmap: {
    parameters: [
      "usize", // void *addr
      "usize", // size_t length
      "i32", // int prot
      "i32", // int flags
      "i32", // int fd
      "i64", // off_t offset
    ],
    result: "usize",
  },
  munmap: {
    parameters: [
      "usize", // void *addr
      "usize", // size_t length
    ],
    result: "i32",
  },
  close: {
    parameters: [
      "i32", // int fd
    ],
    result: "i32",
  },
} as const satisfies Deno.ForeignLibraryInterface;

/** Of `linux/memfd.h`, `linux/fcntl.h` and `asm-generic/mman.h`. */
const MFD_CLOEXEC = 1;
const MFD_ALLOW_SEALING = 2;
const F_ADD_SEALS = 1033;
const SEAL_SIZE_FOR_GOOD = 1 | 2 | 4;
const PROT_READ_WRITE = 3;
const MAP_SHARED = 1;
const MAP_FAILED = 2n ** 64n - 1n;

type Library = Deno.DynamicLibrary<typeof symbols>;

/**
 * Memory that this process maps and that others map by opening {@linkcode SharedMemory.path}. It has
 * no name in any folder, and its size is sealed, so that nobody can take it away under a reader; the
 * system has it back when all that map it have ended or let go. Linux only.
 */
export class SharedMemory implements Disposable {
  /** Size in bytes. */
  readonly byteLength: number;
  readonly #library: Library;
  readonly #memory: Memory;
  readonly #descriptor: number;
  readonly #address: Address;
  #isOpen = true;

  private constructor(
    library: Library,
    place: { readonly descriptor: number; readonly address: Address; readonly byteLength: number },
  ) {
    this.#library = library;
    this.#memory = new Memory(library.symbols);
    this.#descriptor = place.descriptor;
    this.#address = place.address;
    this.byteLength = place.byteLength;
  }

  /**
   * Takes memory of zeros, which costs nothing before it is written to. `name` is what lists of
   * processes show. Needs `--allow-ffi` for the C library.
   *
   * @throws {LibraryError} There is no C library at any of the known places.
   * @throws {PermissionError} Deno was not allowed to open it.
   * @throws {StateError} The system refused: no memory or no descriptor left.
   */
  static create(byteLength: number, name: string): SharedMemory {
    const library = openLibc();
    const libc = library.symbols;
    const descriptor = libc.memfd_create(toCString(name), MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (descriptor < 0) {
      library.close();
      throw new StateError("The system gives no descriptor for shared memory");
    }
    const isSized = libc.ftruncate(descriptor, BigInt(byteLength)) === 0 &&
      libc.fcntl(descriptor, F_ADD_SEALS, SEAL_SIZE_FOR_GOOD) === 0;
    const address = isSized
      ? libc.mmap(0n, BigInt(byteLength), PROT_READ_WRITE, MAP_SHARED, descriptor, 0n)
      : MAP_FAILED;
    if (address !== MAP_FAILED) {
      return new SharedMemory(library, { descriptor, address, byteLength });
    }
    libc.close(descriptor);
    library.close();
    throw new StateError(`The system gives no ${byteLength} bytes of shared memory`);
  }

  /** Where another process of this user on this host opens it. */
  get path(): string {
    return `/proc/${Deno.pid}/fd/${this.#descriptor}`;
  }

  /** Copies from `offset` into `target` on a thread of the pool; resolves when that is done. */
  async read(offset: number, target: Uint8Array): Promise<void> {
    const source = this.#at(offset, target.length);
    await this.#memory.copyAside(this.#memory.addressOf(target), source, target.length);
  }

  /** Copies `bytes` to `offset`. */
  write(offset: number, bytes: Uint8Array<ArrayBuffer>): void {
    this.#memory.write(this.#at(offset, bytes.length), bytes);
  }

  /** Lets go of it; no {@linkcode SharedMemory.read} may be under way. */
  [Symbol.dispose](): void {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    this.#library.symbols.munmap(this.#address, BigInt(this.byteLength));
    this.#library.symbols.close(this.#descriptor);
    this.#library.close();
  }

  #at(offset: number, length: number): Address {
    if (!this.#isOpen) throw new StateError("The shared memory was given back");
    if (offset < 0 || offset + length > this.byteLength) {
      throw new ValidationError(
        `${length} bytes at ${offset} lie outside of ${this.byteLength} bytes of shared memory`,
      );
    }
    return this.#address + BigInt(offset);
  }
}

function openLibc(): Library {
  const tried: { path: string; reason: string }[] = [];
  for (const path of LIBC_PATHS) {
    try {
      return Deno.dlopen(path, symbols);
    } catch (error) {
      if (error instanceof Deno.errors.NotCapable) {
        const flag = `--allow-ffi=${path}`;
        throw new PermissionError(
          `Shared memory needs the C library, which Deno refused to open; run again with ${flag}`,
          { flag, cause: error },
        );
      }
      tried.push({ path, reason: messageOf(error) });
    }
  }
  throw new LibraryError(
    `Shared memory needs Linux and its C library. Tried: ${
      tried.map(({ path }) => path).join(", ")
    }`,
    { tried },
  );
}
