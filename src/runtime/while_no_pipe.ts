import { builtin } from "./node/builtin.ts";

/**
 * Opens what is to be written. A pipe that nobody reads holds who opens it, and a thread with it, for
 * ever: it fails at once instead, with `ENXIO`. One that is read stays read while `open` runs.
 */
export async function whileNoPipe<File>(
  path: string | URL,
  open: () => Promise<File>,
): Promise<File> {
  const probe = await openAtOnce(path);
  try {
    return await open();
  } finally {
    if (probe !== undefined) builtin("node:fs").close(probe, () => {});
  }
}

/** A descriptor of what is there; other failures are those of the opening itself. */
function openAtOnce(path: string | URL): Promise<number | undefined> {
  const { open, constants: { O_WRONLY, O_NONBLOCK } } = builtin("node:fs");
  // Windows has no such pipes in its folders.
  if (O_NONBLOCK === undefined) return Promise.resolve(undefined);
  return new Promise((resolve, reject) =>
    open(path, O_WRONLY | O_NONBLOCK, (error, descriptor) => {
      if (error?.code === "ENXIO") reject(error);
      else resolve(error ? undefined : descriptor);
    })
  );
}
