import { join } from "node:path";
import { pathOf } from "../internal/path_of.ts";
import { namingPermission } from "../internal/permission.ts";
import { AppendFile } from "./append_file.ts";
import { checkStep, type ScalarSink } from "./scalar_sink.ts";
import { runtime } from "../runtime/mod.ts";

/**
 * Notes numbers as a TensorBoard event file in `folder`, one curve for each name. Look at them with
 * `tensorboard --logdir FOLDER`. Each sink makes a file of its own, as TensorBoard expects of a run
 * that goes on; with `purgeStep` it forgets what earlier files of the folder say of that step and later
 * ones, which a killed run noted and its successor takes again. Needs `--allow-write` of the folder.
 *
 * Sources: TensorFlow `record_writer.cc` (length, masked CRC-32C, data, masked CRC-32C), `event.proto`
 * (`Event`: 1 wall_time, 2 step, 3 file_version, 5 summary, 7 session_log; `SessionLog`: 1 status, of which 1
 * is START), `summary.proto` (`Summary.Value`: 1 tag, 2 simple_value).
 */
export async function tensorBoardSink(
  place: string,
  options: { readonly now?: () => number; readonly purgeStep?: number | undefined } = {},
): Promise<ScalarSink> {
  const { now = Date.now, purgeStep } = options;
  const folder = pathOf(place, "a sink");
  if (purgeStep !== undefined) checkStep(purgeStep);
  await namingPermission(
    `--allow-write=${folder}`,
    `write ${folder}`,
    () => runtime().mkdir(folder, { recursive: true }),
  );
  const seconds = String(Math.floor(now() / 1000)).padStart(10, "0");
  const name = `events.out.tfevents.${seconds}.sglang-rl.${crypto.randomUUID()}`;
  await using stack = new AsyncDisposableStack();
  const file = await AppendFile.open(join(folder, name));
  stack.defer(() => file.close());
  await file.write(recordOf([...double(1, now() / 1000), ...text(3, "brain.Event:2")]));
  if (purgeStep !== undefined) {
    const begins = bytesOf(7, varint(1, 1n));
    await file.write(
      recordOf([...double(1, now() / 1000), ...varint(2, BigInt(purgeStep)), ...begins]),
    );
  }
  // Until here a failure closes it.
  stack.move();
  return {
    async log(step, values) {
      checkStep(step);
      const summary = Object.entries(values).flatMap(([tag, value]) =>
        bytesOf(1, [...text(1, tag), ...float(2, value)])
      );
      await file.write(
        recordOf([...double(1, now() / 1000), ...varint(2, BigInt(step)), ...bytesOf(5, summary)]),
      );
    },
    async [Symbol.asyncDispose]() {
      await file.close();
    },
  };
}

/** One record of a file: its length and its bytes, each with its checksum. */
export function recordOf(event: readonly number[]): Uint8Array {
  const record = new Uint8Array(16 + event.length);
  const view = new DataView(record.buffer);
  view.setBigUint64(0, BigInt(event.length), true);
  view.setUint32(8, maskedCrc(record.subarray(0, 8)), true);
  record.set(event, 12);
  view.setUint32(12 + event.length, maskedCrc(record.subarray(12, 12 + event.length)), true);
  return record;
}

/** CRC-32C, turned and shifted, so that a checksum of checksums is not weak. */
function maskedCrc(bytes: Uint8Array): number {
  const crc = crc32c(bytes);
  return (((crc >>> 15) | (crc << 17)) + 0xa282ead8) >>> 0;
}

/** CRC-32C (Castagnoli), bit by bit reversed polynomial 0x82f63b78. */
export function crc32c(bytes: Uint8Array): number {
  let crc = 0xffffffff;
  for (const byte of bytes) crc = crcTable[(crc ^ byte) & 0xff]! ^ (crc >>> 8);
  return (crc ^ 0xffffffff) >>> 0;
}

const crcTable = Uint32Array.from({ length: 256 }, (_, byte) => {
  let crc = byte;
  for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0x82f63b78 : crc >>> 1;
  return crc;
});

const VARINT = 0, FIXED64 = 1, BYTES = 2, FIXED32 = 5;

function varint(field: number, value: bigint): number[] {
  return [...rawVarint(BigInt(field << 3 | VARINT)), ...rawVarint(BigInt.asUintN(64, value))];
}

function rawVarint(value: bigint): number[] {
  const bytes: number[] = [];
  for (; value > 127n; value >>= 7n) bytes.push(Number(value & 127n) | 128);
  return [...bytes, Number(value)];
}

function double(field: number, value: number): number[] {
  return [field << 3 | FIXED64, ...new Uint8Array(Float64Array.of(value).buffer)];
}

function float(field: number, value: number): number[] {
  return [field << 3 | FIXED32, ...new Uint8Array(Float32Array.of(value).buffer)];
}

function bytesOf(field: number, bytes: readonly number[]): number[] {
  return [field << 3 | BYTES, ...rawVarint(BigInt(bytes.length)), ...bytes];
}

function text(field: number, value: string): number[] {
  return bytesOf(field, [...new TextEncoder().encode(value)]);
}
