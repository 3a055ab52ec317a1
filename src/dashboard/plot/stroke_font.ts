/** Letters as strokes, for pictures that are made without a font. */
import type { Point } from "./chart.ts";

/**
 * Strokes of each character from `!` to `~`: pairs of digits are points of a grid of 5 by 9, of which
 * capitals take the upper 7 rows.
 */
const strokes = (
  "2024,2626|1012,3032|1016,3036,0242,0444|413010010213334445361605,2026|" +
  "0640,0010110100,3545463635|4612112031320405162644|2022|30121436|10323416|2125,0244,0442|" +
  "2125,0343|252617|0343|2626|0640|" +
  "103041453616050110,1432|112026,1636|01103041420646|01103041423323,334445361605|36300444|" +
  "400003334445361605|413010010516364544331304|004016|" +
  "103041423313020110,3344453616050413|051636454130100102133342|" +
  "2323,2626|2323,252617|410345|0242,0444|014305|01103041422324,2626|" +
  "34322213142434,344441301001051646|" +
  "062046,1434|0006,003041423303,3344453606|4130100105163645|0006,002042442606|40000646,0333|" +
  "400006,0333|41301001051636454323|0006,4046,0343|1030,2026,1636|4045361605|0006,4004,1346|" +
  "000646|0600234046|06004640|103041453616050110|06003041423303|103041453616050110,2446|" +
  "06003041423303,2346|413010010213334445361605|0040,2026|000516364540|002640|0016233640|" +
  "0046,4006|002340,2326|00400646|" +
  "30101636|0046|10303616|122032|0747|1021|" +
  "12324346,441405163645|0006,0312324345361605|4332120305163645|4046,4332120305163645|" +
  "04444332120305163645|40302126,1232|4332120305163645,4247381807|0006,0312324346|2226,2020|" +
  "32372818,3030|0006,4205,1446|202536|0206,03122326,23324346|0206,0312324346|" +
  "123243453616050312|0208,0312324345361605|4248,4332120305163645|0206,04223243|" +
  "43321203143445361605|202536,1232|0205163645,4246|022642|0216243642|0246,4206|0226,4218|" +
  "02420646|" +
  "30212213242536|2027|10212233242516|03123443"
).split("|");
/** What stands for a character that has no strokes here. */
const box = "0040460600";
const FIRST = 33;
/** Columns of the grid from one letter to the next. */
const ADVANCE = 6;
const CAPITAL_ROWS = 6;
/** Height of a capital in sizes of a font. */
const CAPITAL = 0.68;

/** Width of a text in pixels. */
export function strokeWidth(text: string, size: number): number {
  return Math.max(0, [...spelled(text)].length * ADVANCE - 2) * unitOf(size);
}

/** The lines of a text that begins at `x` and stands on `y`. */
export function strokesOf(
  text: string,
  { x, y, size }: Point & { readonly size: number },
): Point[][] {
  const unit = unitOf(size);
  return [...spelled(text)].flatMap((letter, i) => {
    const known = letter === " " ? "" : strokes[letter.charCodeAt(0) - FIRST] ?? box;
    const left = x + i * ADVANCE * unit;
    return known.split(",").filter((stroke) => stroke !== "").map((stroke) =>
      Array.from({ length: stroke.length / 2 }, (_, at) => ({
        x: left + Number(stroke[2 * at]) * unit,
        y: y + (Number(stroke[2 * at + 1]) - CAPITAL_ROWS) * unit,
      }))
    );
  });
}

function unitOf(size: number): number {
  return size * CAPITAL / CAPITAL_ROWS;
}

/** Letters without their accents, and signs that are written by others. */
function spelled(text: string): string {
  return text.normalize("NFKD").replaceAll(/\p{M}/gu, "")
    .replaceAll(/[\u2010-\u2015\u2212]/g, "-").replaceAll("→", "->").replaceAll(/[“”]/g, '"')
    .replaceAll(/[‘’]/g, "'").replaceAll("⟨", "<").replaceAll("⟩", ">");
}
