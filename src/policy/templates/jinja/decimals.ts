/** Floats with a fixed number of digits, rounded exactly and half to even, as C and Python do. */

/** Digits before and after the point. */
export function fixed(value: number, digits: number): string {
  if (!Number.isFinite(value)) return specials(value);
  const { sign, top, bottom } = fraction(value);
  const scaled = divide(top * 10n ** BigInt(digits), bottom);
  const text = String(scaled).padStart(digits + 1, "0");
  return sign + (digits === 0 ? text : `${text.slice(0, -digits)}.${text.slice(-digits)}`);
}

/** One digit before the point, and an exponent of at least two digits. */
export function exponential(value: number, digits: number): string {
  if (!Number.isFinite(value)) return specials(value);
  const { mantissa, exponent } = scientific(value, digits);
  const power = `${exponent < 0 ? "-" : "+"}${String(Math.abs(exponent)).padStart(2, "0")}`;
  return `${mantissa}e${power}`;
}

/** The shorter of both with so many significant digits; zeros at the end stay with `keepZeros`. */
export function general(value: number, digits: number, keepZeros: boolean): string {
  if (!Number.isFinite(value)) return specials(value);
  const precision = Math.max(1, digits);
  const { exponent } = value === 0 ? { exponent: 0 } : scientific(value, precision - 1);
  const isExponential = exponent < -4 || exponent >= precision;
  const text = isExponential
    ? exponential(value, precision - 1)
    : fixed(value, Math.max(0, precision - 1 - exponent));
  if (keepZeros) return text;
  const [mantissa = "", power] = text.split("e");
  const short = mantissa.includes(".") ? mantissa.replace(/\.0+$|(?<!0)0+$/, "") : mantissa;
  return power === undefined ? short : `${short}e${power}`;
}

function specials(value: number): string {
  return Number.isNaN(value) ? "nan" : value > 0 ? "inf" : "-inf";
}

function scientific(value: number, digits: number): { mantissa: string; exponent: number } {
  const { sign, top, bottom } = fraction(value);
  if (top === 0n) {
    return { mantissa: sign + (digits === 0 ? "0" : `0.${"0".repeat(digits)}`), exponent: 0 };
  }
  let exponent = Number(value.toExponential().split("e")[1]);
  let scaled = scaleTo(top, bottom, digits - exponent);
  // Rounding up may have made one digit more.
  if (scaled >= 10n ** BigInt(digits + 1)) scaled = scaleTo(top, bottom, digits - ++exponent);
  const text = String(scaled);
  return { mantissa: sign + (digits === 0 ? text : `${text[0]}.${text.slice(1)}`), exponent };
}

function scaleTo(top: bigint, bottom: bigint, power: number): bigint {
  return power >= 0
    ? divide(top * 10n ** BigInt(power), bottom)
    : divide(top, bottom * 10n ** BigInt(-power));
}

/** The exact value of a float as a fraction. */
function fraction(value: number): { sign: string; top: bigint; bottom: bigint } {
  const view = new DataView(new ArrayBuffer(8));
  view.setFloat64(0, value);
  const bits = view.getBigUint64(0);
  const sign = bits >> 63n ? "-" : "";
  const power = Number((bits >> 52n) & 0x7ffn);
  const rest = bits & 0xfffffffffffffn;
  const mantissa = power === 0 ? rest : rest | 0x10000000000000n;
  const exponent = (power === 0 ? 1 : power) - 1075;
  return exponent >= 0
    ? { sign, top: mantissa << BigInt(exponent), bottom: 1n }
    : { sign, top: mantissa, bottom: 1n << BigInt(-exponent) };
}

/** Half to even. */
function divide(top: bigint, bottom: bigint): bigint {
  const whole = top / bottom;
  const twice = (top % bottom) * 2n;
  return twice > bottom || twice === bottom && whole % 2n === 1n ? whole + 1n : whole;
}
