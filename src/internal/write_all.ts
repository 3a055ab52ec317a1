/** Writes all bytes; one call of a file or a socket may take only the first of them. */
export async function writeAll(
  to: { write(bytes: Uint8Array): Promise<number> },
  bytes: Uint8Array,
): Promise<void> {
  for (let at = 0; at < bytes.length;) at += await to.write(bytes.subarray(at));
}

/** Characters that are written at once. */
const WRITTEN_AT_ONCE = 1 << 20;

/**
 * Writes lines, each with its end, about 1 MiB at a time. The signal is looked at before each of these
 * pieces: what was written are whole lines.
 */
export async function writeLines(
  to: { write(bytes: Uint8Array): Promise<number> },
  lines: Iterable<string>,
  { signal }: { readonly signal: AbortSignal | undefined },
): Promise<void> {
  const encoder = new TextEncoder();
  for (const text of inPieces(lines)) {
    signal?.throwIfAborted();
    await writeAll(to, encoder.encode(text));
  }
}

function* inPieces(lines: Iterable<string>): Generator<string, void, void> {
  let held: string[] = [];
  let length = 0;
  for (const line of lines) {
    held.push(line);
    length += line.length;
    if (length < WRITTEN_AT_ONCE) continue;
    yield held.join("");
    held = [];
    length = 0;
  }
  yield held.join("");
}
