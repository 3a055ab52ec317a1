/** `NCCL_CONFIG_UNDEF_INT`: leave the setting to NCCL. */
const UNDEFINED_INT = -2147483648;
/** `ncclConfig_t.magic`. */
const MAGIC = 0xcafebeef;
/**
 * The fields of NCCL 2.18, which every later version takes. The size covers two fields that came
 * later (trafficClass, commName); by the version NCCL knows that they are not set.
 */
const LAYOUT_BYTES = 56;
const LAYOUT_VERSION = 21800;

/** `ncclConfig_t` in the layout of NCCL 2.18; `blocking` says whether calls wait for peers. */
export function packConfig(options: { readonly blocking: boolean }): Uint8Array<ArrayBuffer> {
  const view = new DataView(new ArrayBuffer(LAYOUT_BYTES));
  view.setBigUint64(0, BigInt(LAYOUT_BYTES), true); // size
  view.setUint32(8, MAGIC, true); // magic
  view.setUint32(12, LAYOUT_VERSION, true); // version
  view.setInt32(16, options.blocking ? 1 : 0, true); // blocking
  view.setInt32(20, UNDEFINED_INT, true); // cgaClusterSize
  view.setInt32(24, UNDEFINED_INT, true); // minCTAs
  view.setInt32(28, UNDEFINED_INT, true); // maxCTAs
  view.setBigUint64(32, 0n, true); // netName
  view.setInt32(40, UNDEFINED_INT, true); // splitShare
  return new Uint8Array(view.buffer);
}
