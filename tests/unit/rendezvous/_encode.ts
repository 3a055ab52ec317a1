import { MessageWriter, Op, VALIDATE_MAGIC } from "../../../src/rendezvous/wire.ts";
import type { StoreRequest } from "../../../src/rendezvous/request.ts";

/** The bytes of a request as torch's client sends it. */
export function encodeRequest(request: StoreRequest): Uint8Array<ArrayBuffer> {
  const writer = new MessageWriter().u8(Op[request.op]);
  switch (request.op) {
    case "validate":
      return writer.u32(VALIDATE_MAGIC).finish();
    case "getNumKeys":
    case "cancelWait":
      return writer.finish();
    case "ping":
      return concat(writer.finish(), request.nonce);
    case "set":
    case "append":
      return writer.text(request.key).bytes(request.value).finish();
    case "compareSet":
      return writer.text(request.key).bytes(request.expected).bytes(request.desired).finish();
    case "get":
    case "deleteKey":
      return writer.text(request.key).finish();
    case "add":
      return writer.text(request.key).i64(request.delta).finish();
    case "check":
    case "wait":
    case "multiGet":
      return writer.texts(request.keys).finish();
    case "multiSet":
      writer.u64(request.entries.length);
      for (const [key, value] of request.entries) writer.text(key).bytes(value);
      return writer.finish();
  }
}

/** Joins byte arrays. */
export function concat(...parts: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  const out = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let offset = 0;
  for (const part of parts) {
    out.set(part, offset);
    offset += part.length;
  }
  return out;
}

/** UTF-8 bytes. */
export function utf8(text: string): Uint8Array<ArrayBuffer> {
  return new TextEncoder().encode(text);
}
