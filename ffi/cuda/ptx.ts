/**
 * The kernels, as text that the driver compiles for the device it finds. PTX 6.4 and sm_70: every
 * driver for CUDA 12 and 13 takes them.
 */

/**
 * `cast_f32_bf16(target, source, count)`: float32 to bfloat16, to the nearest, ties to even; NaN
 * stays NaN with its sign and the upper bits of its payload, made quiet. A loop with grid stride;
 * `round(x) = (x + 0x7fff + ((x >> 16) & 1)) >> 16` on the bits.
 */
export const castPtx = `
.version 6.4
.target sm_70
.address_size 64

.visible .entry cast_f32_bf16(
  .param .u64 target_param,
  .param .u64 source_param,
  .param .u64 count_param
)
{
  .reg .pred %outside, %is_nan;
  .reg .b16 %half;
  .reg .b32 %thread, %block, %size, %blocks, %bits, %magnitude, %odd, %rounded, %quiet, %result;
  .reg .b64 %target, %source, %count, %index, %stride, %wide, %address, %offset;

  ld.param.u64 %target, [target_param];
  ld.param.u64 %source, [source_param];
  ld.param.u64 %count, [count_param];
  cvta.to.global.u64 %target, %target;
  cvta.to.global.u64 %source, %source;
  mov.u32 %thread, %tid.x;
  mov.u32 %block, %ctaid.x;
  mov.u32 %size, %ntid.x;
  mov.u32 %blocks, %nctaid.x;
  mul.wide.u32 %index, %block, %size;
  cvt.u64.u32 %wide, %thread;
  add.u64 %index, %index, %wide;
  mul.wide.u32 %stride, %blocks, %size;
NEXT:
  setp.ge.u64 %outside, %index, %count;
  @%outside bra DONE;
  shl.b64 %offset, %index, 2;
  add.u64 %address, %source, %offset;
  ld.global.u32 %bits, [%address];
  and.b32 %magnitude, %bits, 0x7fffffff;
  setp.gt.u32 %is_nan, %magnitude, 0x7f800000;
  shr.u32 %odd, %bits, 16;
  or.b32 %quiet, %odd, 0x40;
  and.b32 %odd, %odd, 1;
  add.u32 %rounded, %bits, 0x7fff;
  add.u32 %rounded, %rounded, %odd;
  shr.u32 %rounded, %rounded, 16;
  selp.b32 %result, %quiet, %rounded, %is_nan;
  cvt.u16.u32 %half, %result;
  shl.b64 %offset, %index, 1;
  add.u64 %address, %target, %offset;
  st.global.u16 [%address], %half;
  add.u64 %index, %index, %stride;
  bra NEXT;
DONE:
  ret;
}
`;

const mix = (word: string) => `
  shr.u32 %shifted, ${word}, 16;
  xor.b32 ${word}, ${word}, %shifted;
  mul.lo.u32 ${word}, ${word}, 0x85ebca6b;
  shr.u32 %shifted, ${word}, 13;
  xor.b32 ${word}, ${word}, %shifted;
  mul.lo.u32 ${word}, ${word}, 0xc2b2ae35;
  shr.u32 %shifted, ${word}, 16;
  xor.b32 ${word}, ${word}, %shifted;`;

/**
 * `checksum(sums, source, words)`: adds to two 32-bit sums over the buffer's 32-bit words; the
 * host adds a last, partial word. Per word `w` at index `i`:
 * `low += mix(w ^ i * 0x9e3779b1)` and `high += mix((w + 0x27d4eb2f) * 0xc2b2ae3d ^ i *
 * 0x165667b1)`, with the finalizer of MurmurHash3 as `mix`. Sums do not depend on the order in
 * which threads add.
 */
export const checksumPtx = `
.version 6.4
.target sm_70
.address_size 64

.visible .entry checksum(
  .param .u64 sums_param,
  .param .u64 source_param,
  .param .u64 words_param
)
{
  .reg .pred %outside;
  .reg .b32 %thread, %block, %size, %blocks, %word, %position, %low, %high, %key, %one, %shifted;
  .reg .b64 %sums, %source, %words, %index, %stride, %wide, %address, %offset;

  ld.param.u64 %sums, [sums_param];
  ld.param.u64 %source, [source_param];
  ld.param.u64 %words, [words_param];
  cvta.to.global.u64 %sums, %sums;
  cvta.to.global.u64 %source, %source;
  mov.u32 %thread, %tid.x;
  mov.u32 %block, %ctaid.x;
  mov.u32 %size, %ntid.x;
  mov.u32 %blocks, %nctaid.x;
  mul.wide.u32 %index, %block, %size;
  cvt.u64.u32 %wide, %thread;
  add.u64 %index, %index, %wide;
  mul.wide.u32 %stride, %blocks, %size;
  mov.u32 %low, 0;
  mov.u32 %high, 0;
NEXT:
  setp.ge.u64 %outside, %index, %words;
  @%outside bra DONE;
  shl.b64 %offset, %index, 2;
  add.u64 %address, %source, %offset;
  ld.global.u32 %word, [%address];
  cvt.u32.u64 %position, %index;
  mul.lo.u32 %key, %position, 0x9e3779b1;
  xor.b32 %one, %word, %key;${mix("%one")}
  add.u32 %low, %low, %one;
  add.u32 %one, %word, 0x27d4eb2f;
  mul.lo.u32 %one, %one, 0xc2b2ae3d;
  mul.lo.u32 %key, %position, 0x165667b1;
  xor.b32 %one, %one, %key;${mix("%one")}
  add.u32 %high, %high, %one;
  add.u64 %index, %index, %stride;
  bra NEXT;
DONE:
  red.global.add.u32 [%sums], %low;
  red.global.add.u32 [%sums+4], %high;
  ret;
}
`;
