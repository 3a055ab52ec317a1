/**
 * Where secrets can be read by `ps` or in the environment of any process of this machine.
 *
 * @param keys The secrets by what they are called in what comes back.
 */
export async function seenKeys(keys: Readonly<Record<string, string>>): Promise<string[]> {
  const found: string[] = [];
  for await (const { name: pid } of Deno.readDir("/proc")) {
    if (!/^\d+$/.test(pid)) continue;
    for (const file of ["cmdline", "environ", "comm"]) {
      const text = await Deno.readTextFile(`/proc/${pid}/${file}`).catch(() => "");
      for (const [name, key] of Object.entries(keys)) {
        if (text.includes(key)) found.push(`${name} in ${file} of ${text.slice(0, 100)}`);
      }
    }
  }
  return found;
}
