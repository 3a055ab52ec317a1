/** Where the library reports what it does. The default says nothing. */
export interface Logger {
  /** Detail for finding a fault. */
  debug(message: string): void;
  /** What happens. */
  info(message: string): void;
  /** What went wrong but was met. */
  warn(message: string): void;
  /** What went wrong. */
  error(message: string): void;
}

/** Says nothing. */
export const silentLogger: Logger = { debug() {}, info() {}, warn() {}, error() {} };
