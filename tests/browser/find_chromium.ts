const candidates = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"];

/** The Chromium that is installed (Debian's package `chromium`); undefined where there is none. */
export const chromiumPath: string | undefined = (await Promise.all(
  candidates.map((path) => Deno.stat(path).then(() => path, () => undefined)),
)).find((path) => path !== undefined);
