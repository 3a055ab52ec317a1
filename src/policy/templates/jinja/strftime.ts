const days = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
const months = [
  "January",
  "February",
  "March",
  "April",
  "May",
  "June",
  "July",
  "August",
  "September",
  "October",
  "November",
  "December",
];

/** A date in C's notation, with English names and in local time, as `datetime.strftime()`. */
export function strftime(date: Date, format: string): string {
  const two = (value: number) => String(value).padStart(2, "0");
  const year = date.getFullYear();
  const dayOfYear = Math.round(
    (Date.UTC(year, date.getMonth(), date.getDate()) - Date.UTC(year, 0, 1)) / 864e5,
  );
  const hour12 = date.getHours() % 12 || 12;
  // Days before the first Sunday, or Monday, of the year are in week 0.
  const week = (first: number) => Math.floor((dayOfYear + 7 - (date.getDay() - first + 7) % 7) / 7);
  const iso = isoWeek(date);
  const fields: Readonly<Record<string, () => string>> = {
    a: () => days[date.getDay()]!.slice(0, 3),
    A: () => days[date.getDay()]!,
    b: () => months[date.getMonth()]!.slice(0, 3),
    B: () => months[date.getMonth()]!,
    c: () => write("%a %b %e %H:%M:%S %Y"),
    C: () => two(Math.floor(year / 100)),
    d: () => two(date.getDate()),
    D: () => write("%m/%d/%y"),
    e: () => String(date.getDate()).padStart(2),
    f: () => String(date.getMilliseconds() * 1000).padStart(6, "0"),
    F: () => write("%Y-%m-%d"),
    g: () => two(iso.year % 100),
    G: () => String(iso.year),
    h: () => write("%b"),
    H: () => two(date.getHours()),
    I: () => two(hour12),
    j: () => String(dayOfYear + 1).padStart(3, "0"),
    k: () => String(date.getHours()).padStart(2),
    l: () => String(hour12).padStart(2),
    m: () => two(date.getMonth() + 1),
    M: () => two(date.getMinutes()),
    n: () => "\n",
    p: () => date.getHours() < 12 ? "AM" : "PM",
    P: () => date.getHours() < 12 ? "am" : "pm",
    r: () => write("%I:%M:%S %p"),
    R: () => write("%H:%M"),
    s: () => String(Math.floor(date.getTime() / 1000)),
    S: () => two(date.getSeconds()),
    t: () => "\t",
    T: () => write("%H:%M:%S"),
    u: () => String(date.getDay() || 7),
    U: () => two(week(0)),
    V: () => two(iso.week),
    w: () => String(date.getDay()),
    W: () => two(week(1)),
    x: () => write("%m/%d/%y"),
    X: () => write("%H:%M:%S"),
    y: () => two(year % 100),
    Y: () => String(year),
    // A date of Python without a time zone has none to show.
    z: () => "",
    Z: () => "",
    "%": () => "%",
  };
  const write = (format: string): string =>
    format.replace(/%([-_0^#]?)([a-zA-Z%])/g, (whole, flag: string, name: string) => {
      const text = Object.hasOwn(fields, name) ? fields[name]!() : whole;
      if (flag === "-") return text.replace(/^[0 ]+(?=.)/, "");
      if (flag === "_") return text.replace(/^0+(?=.)/, (zeros) => " ".repeat(zeros.length));
      if (flag === "0") return text.replace(/^ +/, (spaces) => "0".repeat(spaces.length));
      return flag === "^" ? text.toUpperCase() : text;
    });
  return write(format);
}

function isoWeek(date: Date): { year: number; week: number } {
  const thursday = new Date(date.getFullYear(), date.getMonth(), date.getDate());
  thursday.setDate(thursday.getDate() + 4 - (thursday.getDay() || 7));
  const year = thursday.getFullYear();
  const first = new Date(year, 0, 1);
  const day = Math.round((thursday.getTime() - first.getTime()) / 864e5);
  return { year, week: Math.floor(day / 7) + 1 };
}
