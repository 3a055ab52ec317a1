import { messageOf } from "../internal/thrown.ts";

/** Shared memory that the trainer fills slot by slot. */
export interface Ring {
  /** Number of slots. */
  readonly slots: number;
  /** Bytes of each. */
  readonly slotBytes: number;
  /** Copies from a slot. */
  read(slot: number, offset: number, target: Uint8Array): Promise<void>;
  /** Lets go of the memory. */
  close(): Promise<void>;
}

/** Bytes before the first slot, of which the first 32 are the token. */
const HEADER_BYTES = 4096;
/** Bytes of a slot: long enough that a message for each costs nothing. */
const SLOT_BYTES = 4 * 2 ** 20;

/** A ring, and what the trainer is told of it. */
export interface OfferedRing {
  /** The ring. */
  readonly ring: Ring;
  /** Where it is and how it is divided. */
  readonly offer: {
    readonly path: string;
    readonly token: string;
    readonly headerBytes: number;
    readonly slotBytes: number;
    readonly slots: number;
  };
}

/**
 * Takes shared memory that has no name: a trainer on this host opens it below `/proc`, and when both
 * are gone, however they ended, the system has it back.
 *
 * @returns The ring, or why there is none.
 */
export async function openRing(ringBytes: number): Promise<OfferedRing | string> {
  const slots = Math.max(2, Math.floor(ringBytes / SLOT_BYTES));
  const byteLength = HEADER_BYTES + slots * SLOT_BYTES;
  try {
    const { SharedMemory } = await loadNative();
    const memory = SharedMemory.create(byteLength, "sglang-rl-trainer");
    const token = crypto.getRandomValues(new Uint8Array(32));
    memory.write(0, token);
    const ring: Ring = {
      slots,
      slotBytes: SLOT_BYTES,
      read: (slot, offset, target) =>
        memory.read(HEADER_BYTES + slot * SLOT_BYTES + offset, target),
      close() {
        memory[Symbol.dispose]();
        return Promise.resolve();
      },
    };
    const { path } = memory;
    const layout = { headerBytes: HEADER_BYTES, slotBytes: SLOT_BYTES, slots };
    return { ring, offer: { path, token: token.toHex(), ...layout } };
  } catch (error) {
    return messageOf(error);
  }
}

/** The native code, loaded only where somebody wants shared memory. */
function loadNative(): Promise<typeof import("../../ffi/shared_memory.ts")> {
  return import("../../ffi/shared_memory.ts");
}
