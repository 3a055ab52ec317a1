/** Bounds that keep a store's memory finite whatever its clients send. */
export interface StoreLimits {
  /** Longest key, in UTF-8 bytes. Default 8 KiB, as torch. */
  readonly maxKeyBytes: number;
  /** Longest value, in bytes. Default 8 MiB, as torch. */
  readonly maxValueBytes: number;
  /** Most keys in the store, and in one request. Default 131,072, as torch. */
  readonly maxKeys: number;
  /** All keys and values in the store together, in bytes. Default 256 MiB. */
  readonly maxStoredBytes: number;
  /** One request or one answer, in bytes. Default 64 MiB. */
  readonly maxMessageBytes: number;
  /** Requests and answers under way on all connections together, in bytes. Default 256 MiB. */
  readonly maxBufferedBytes: number;
  /** Most connections at once; further ones are closed at once. Default 1024. */
  readonly maxConnections: number;
  /** Time for a new connection to say that it speaks the protocol, in milliseconds. Default 30 s. */
  readonly helloTimeoutMs: number;
}

const KIB = 1024;
const MIB = 1024 * KIB;

/**
 * The bounds of a store when none are given.
 *
 * Source of the first three: torch `c10d/TCPStoreBackend.cpp` (`MAX_STRING_LEN`,
 * `MAX_PAYLOAD_LEN`, `MAX_KEY_COUNT`).
 */
export const defaultStoreLimits: StoreLimits = {
  maxKeyBytes: 8 * KIB,
  maxValueBytes: 8 * MIB,
  maxKeys: 128 * KIB,
  maxStoredBytes: 256 * MIB,
  maxMessageBytes: 64 * MIB,
  maxBufferedBytes: 256 * MIB,
  maxConnections: 1024,
  helloTimeoutMs: 30_000,
};
