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

/** Takes a further byte of the last word, where it has so many: the word is not read beyond its end. */
const furtherByte = (index: number) =>
  `  mov.u32 %bits, 0;
  setp.gt.u64 %more, %left, ${index};
  @%more ld.global.u8 %bits, [%address+${index}];
  shl.b32 %bits, %bits, ${8 * index};
  or.b32 %word, %word, %bits;
`;

/**
 * `find_word(result, source, bytes, mask, add, test, parity)`: the lowest index of a 32-bit word for
 * which `((word & mask) + add) & test` is not 0, by `min` into the 64-bit number at `result`. With
 * `parity` 1 only words of odd index count. The last word may be short, the source of any alignment.
 */
export const findWordPtx = `
.version 6.4
.target sm_70
.address_size 64

.visible .entry find_word(
  .param .u64 result_param,
  .param .u64 source_param,
  .param .u64 bytes_param,
  .param .u64 mask_param,
  .param .u64 add_param,
  .param .u64 test_param,
  .param .u64 parity_param
)
{
  .reg .pred %outside, %whole, %aligned, %hit, %first, %more, %skip;
  .reg .b32 %thread, %block, %size, %blocks, %word, %bits, %mask, %add, %test;
  .reg .b64 %result, %source, %bytes, %words, %all, %index, %stride, %wide, %address, %offset;
  .reg .b64 %parity, %low, %left;

  ld.param.u64 %result, [result_param];
  ld.param.u64 %source, [source_param];
  ld.param.u64 %bytes, [bytes_param];
  ld.param.u64 %wide, [mask_param];
  cvt.u32.u64 %mask, %wide;
  ld.param.u64 %wide, [add_param];
  cvt.u32.u64 %add, %wide;
  ld.param.u64 %wide, [test_param];
  cvt.u32.u64 %test, %wide;
  ld.param.u64 %parity, [parity_param];
  cvta.to.global.u64 %result, %result;
  cvta.to.global.u64 %source, %source;
  shr.u64 %words, %bytes, 2;
  add.u64 %all, %bytes, 3;
  shr.u64 %all, %all, 2;
  and.b64 %low, %source, 3;
  setp.eq.u64 %aligned, %low, 0;
  mov.u32 %thread, %tid.x;
  mov.u32 %block, %ctaid.x;
  mov.u32 %size, %ntid.x;
  mov.u32 %blocks, %nctaid.x;
  mul.wide.u32 %index, %block, %size;
  cvt.u64.u32 %wide, %thread;
  add.u64 %index, %index, %wide;
  mul.wide.u32 %stride, %blocks, %size;
NEXT:
  setp.ge.u64 %outside, %index, %all;
  @%outside bra DONE;
  and.b64 %low, %index, %parity;
  setp.ne.u64 %skip, %low, %parity;
  @%skip bra STEP;
  shl.b64 %offset, %index, 2;
  add.u64 %address, %source, %offset;
  setp.lt.and.u64 %whole, %index, %words, %aligned;
  @%whole bra WHOLE;
  sub.u64 %left, %bytes, %offset;
  ld.global.u8 %word, [%address];
${[1, 2, 3].map(furtherByte).join("")}  bra TEST;
WHOLE:
  ld.global.u32 %word, [%address];
TEST:
  and.b32 %bits, %word, %mask;
  add.u32 %bits, %bits, %add;
  and.b32 %bits, %bits, %test;
  setp.eq.u32 %skip, %bits, 0;
  @%skip bra STEP;
  ld.volatile.global.u64 %low, [%result];
  setp.lt.u64 %first, %index, %low;
  @%first red.global.min.u64 [%result], %index;
STEP:
  add.u64 %index, %index, %stride;
  bra NEXT;
DONE:
  ret;
}
`;

/** Puts the bits of the element at `%row` and `%column`, as float32, into `%bits`. */
const element = (wide: string, end: string) =>
  `  mul.wide.u32 %index, %row, %columns;
  cvt.u64.u32 %long, %column;
  add.u64 %index, %index, %long;
  @%wide bra ${wide};
  shl.b64 %long, %index, 1;
  add.u64 %address, %source, %long;
  ld.global.u16 %half, [%address];
  cvt.u32.u16 %bits, %half;
  shl.b32 %bits, %bits, 16;
  bra ${end};
${wide}:
  shl.b64 %long, %index, 2;
  add.u64 %address, %source, %long;
  ld.global.u32 %bits, [%address];
${end}:
`;

/**
 * `float8_blocks(values, scales, source, rows, columns, wide, bad, id)`: one block of threads for each
 * block of 128 by 128 elements of a row-major matrix. Its scale is the largest magnitude by 448, or 1
 * where all are zero; each value is divided by that and rounded to float8_e4m3fn, to the nearest,
 * halves to even. `wide` 1: the source is float32, 0: bfloat16. A null address of values or scales:
 * those are not written. NaN and infinity: `min` of `id` into the 64-bit number at `bad`.
 */
export const float8Ptx = `
.version 6.4
.target sm_70
.address_size 64

.visible .entry float8_blocks(
  .param .u64 values_param,
  .param .u64 scales_param,
  .param .u64 source_param,
  .param .u64 rows_param,
  .param .u64 columns_param,
  .param .u64 wide_param,
  .param .u64 bad_param,
  .param .u64 id_param
)
{
  .reg .pred %outside, %none, %wide, %lead, %bad, %small, %zero;
  .reg .b16 %half;
  .reg .b32 %thread, %block, %across, %top, %left, %rows, %columns, %row, %column, %bits, %magnitude;
  .reg .b32 %most, %sign, %odd, %code, %shared, %end, %temp, %rounded;
  .reg .f32 %value, %scale, %scaled, %large;
  .reg .b64 %values, %scales, %source, %long, %index, %address, %flag, %id;
  .shared .align 4 .b32 largest;

  ld.param.u64 %values, [values_param];
  ld.param.u64 %scales, [scales_param];
  ld.param.u64 %source, [source_param];
  ld.param.u64 %long, [rows_param];
  cvt.u32.u64 %rows, %long;
  ld.param.u64 %long, [columns_param];
  cvt.u32.u64 %columns, %long;
  ld.param.u64 %long, [wide_param];
  setp.ne.u64 %wide, %long, 0;
  ld.param.u64 %flag, [bad_param];
  ld.param.u64 %id, [id_param];
  cvta.to.global.u64 %source, %source;
  cvta.to.global.u64 %flag, %flag;
  mov.u32 %thread, %tid.x;
  mov.u32 %block, %ctaid.x;
  add.u32 %across, %columns, 127;
  shr.u32 %across, %across, 7;
  div.u32 %top, %block, %across;
  mul.lo.u32 %temp, %top, %across;
  sub.u32 %left, %block, %temp;
  shl.b32 %top, %top, 7;
  shl.b32 %left, %left, 7;
  and.b32 %column, %thread, 127;
  add.u32 %column, %column, %left;
  add.u32 %end, %top, 128;
  min.u32 %end, %end, %rows;
  mov.u32 %shared, largest;
  setp.eq.u32 %lead, %thread, 0;
  mov.u32 %most, 0;
  @%lead st.shared.u32 [%shared], %most;
  bar.sync 0;

  shr.u32 %temp, %thread, 7;
  add.u32 %row, %top, %temp;
  setp.ge.u32 %outside, %column, %columns;
  @%outside bra SEEN;
LOOK:
  setp.ge.u32 %none, %row, %end;
  @%none bra SEEN;
${element("LOOK_WIDE", "LOOKED")}  and.b32 %magnitude, %bits, 0x7fffffff;
  max.u32 %most, %most, %magnitude;
  add.u32 %row, %row, 2;
  bra LOOK;
SEEN:
  red.shared.max.u32 [%shared], %most;
  bar.sync 0;
  ld.shared.u32 %most, [%shared];
  setp.ge.u32 %bad, %most, 0x7f800000;
  @!%bad bra SOUND;
  @%lead red.global.min.u64 [%flag], %id;
  bra DONE;
SOUND:
  mov.b32 %value, %most;
  mov.f32 %large, 0f43E00000;
  div.rn.f32 %scale, %value, %large;
  setp.eq.u32 %zero, %most, 0;
  mov.f32 %large, 0f3F800000;
  selp.f32 %scale, %large, %scale, %zero;
  setp.eq.u64 %none, %scales, 0;
  @%none bra VALUES;
  @!%lead bra VALUES;
  cvta.to.global.u64 %scales, %scales;
  mul.wide.u32 %long, %block, 4;
  add.u64 %address, %scales, %long;
  st.global.f32 [%address], %scale;
VALUES:
  setp.eq.u64 %none, %values, 0;
  @%none bra DONE;
  @%outside bra DONE;
  cvta.to.global.u64 %values, %values;
  shr.u32 %temp, %thread, 7;
  add.u32 %row, %top, %temp;
WRITE:
  setp.ge.u32 %none, %row, %end;
  @%none bra DONE;
${element("READ_WIDE", "READ")}  mov.b32 %value, %bits;
  div.rn.f32 %scaled, %value, %scale;
  mov.b32 %bits, %scaled;
  shr.u32 %sign, %bits, 24;
  and.b32 %sign, %sign, 0x80;
  and.b32 %magnitude, %bits, 0x7fffffff;
  shr.u32 %odd, %magnitude, 20;
  and.b32 %odd, %odd, 1;
  add.u32 %rounded, %magnitude, 0x7ffff;
  add.u32 %rounded, %rounded, %odd;
  shr.u32 %rounded, %rounded, 20;
  sub.u32 %rounded, %rounded, 960;
  mov.b32 %value, %magnitude;
  mul.rn.f32 %value, %value, 0f44000000;
  cvt.rni.u32.f32 %code, %value;
  setp.lt.u32 %small, %magnitude, 0x3c800000;
  selp.b32 %code, %code, %rounded, %small;
  or.b32 %code, %code, %sign;
  cvt.u16.u32 %half, %code;
  add.u64 %address, %values, %index;
  st.global.u8 [%address], %half;
  add.u32 %row, %row, 2;
  bra WRITE;
DONE:
  ret;
}
`;
