/** A path or address without the slashes at its end; read once, however many they are. */
export function withoutTrailingSlashes(text: string): string {
  return text.replace(/(?<!\/)\/+$/, "");
}
