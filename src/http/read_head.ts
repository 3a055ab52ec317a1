import { ProtocolError, UnreachableError } from "../errors.ts";
import { overLimit } from "../internal/limits.ts";
import type { ByteReader } from "./byte_reader.ts";

/** How much is read of the head of an answer. */
export interface HeadLimits {
  /** Longest head, all its lines together, in bytes. */
  readonly headBytes: number;
  /** Most lines in it. */
  readonly headLines: number;
}

/** What any server's head fits in. */
export const HEAD_LIMITS: HeadLimits = { headBytes: 65_536, headLines: 256 };

/** The lines of the head that comes next, without the blank one at its end. */
export async function readHead(
  bytes: ByteReader,
  { headBytes, headLines }: HeadLimits = HEAD_LIMITS,
): Promise<string[]> {
  const lines: string[] = [];
  let left = headBytes;
  for (;;) {
    const line = await bytes.line("limits.headBytes", left);
    if (line === null && lines.length === 0 && bytes.beginsWithTls) {
      throw new ProtocolError("not HTTP: the server speaks TLS. Give its address as https://");
    }
    if (line === null) {
      throw new UnreachableError("the connection ended before the answer", {
        url: "",
        reason: "lost",
      });
    }
    if (line === "" && lines.length > 0) return lines;
    if (line === "") throw new ProtocolError("not HTTP: the answer begins with a blank line");
    if (lines.length === headLines) {
      throw overLimit(`the answer has ${headLines + 1} headers or more`, "headLines", headLines);
    }
    lines.push(line);
    left -= line.length;
  }
}
