/** Pictures as PNG. Source: PNG (Portable Network Graphics) Specification, third edition, W3C. */
import { crc32 } from "node:zlib";
import type { Raster } from "./raster.ts";

const signature = Uint8Array.of(0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a);
const RGB = 2;

/** A picture as a file, with its title in it. */
export async function pngOf(
  { width, height, pixels }: Pick<Raster, "width" | "height" | "pixels">,
  { title }: { readonly title: string },
): Promise<Uint8Array<ArrayBuffer>> {
  const head = new Uint8Array(13);
  const view = new DataView(head.buffer);
  view.setUint32(0, width);
  view.setUint32(4, height);
  head.set([8, RGB, 0, 0, 0], 8);
  // Each row begins with the filter that it went through: none.
  const rows = new Uint8Array(height * (1 + 3 * width));
  for (let y = 0; y < height; y++) {
    rows.set(pixels.subarray(y * 3 * width, (y + 1) * 3 * width), y * (1 + 3 * width) + 1);
  }
  const packed = await new Response(
    new Blob([rows]).stream().pipeThrough(new CompressionStream("deflate")),
  ).arrayBuffer();
  // keyword, no compression, no language, the text in UTF-8
  const words = new TextEncoder().encode(`Title\0\0\0\0\0${title}`);
  return joined([
    signature,
    chunk("IHDR", head),
    chunk("iTXt", words),
    chunk("IDAT", new Uint8Array(packed)),
    chunk("IEND", new Uint8Array()),
  ]);
}

function chunk(type: string, data: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(12 + data.length);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, data.length);
  bytes.set(new TextEncoder().encode(type), 4);
  bytes.set(data, 8);
  view.setUint32(8 + data.length, crc32(bytes.subarray(4, 8 + data.length)));
  return bytes;
}

function joined(parts: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  const whole = new Uint8Array(parts.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}
