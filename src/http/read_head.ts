import { LimitError, ProtocolError, UnreachableError } from "../errors.ts";
import type { ByteReader } from "./byte_reader.ts";

/** Longest head of an answer, all its lines together, and most lines in it. */
const HEAD_BYTES = 65_536;
const HEAD_LINES = 256;

/** The lines of the head that comes next, without the blank one at its end. */
export async function readHead(bytes: ByteReader): Promise<string[]> {
  const lines: string[] = [];
  let left = HEAD_BYTES;
  for (;;) {
    const line = await bytes.line("headBytes", left);
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
    if (lines.length === HEAD_LINES) {
      throw new LimitError(`the answer has more than headLines, ${HEAD_LINES} headers`, {
        limit: "headLines",
        max: HEAD_LINES,
      });
    }
    lines.push(line);
    left -= line.length;
  }
}
