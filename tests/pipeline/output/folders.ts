/** A folder for the length of a test. */
export async function temporaryFolder(): Promise<{ path: string } & AsyncDisposable> {
  const path = await Deno.makeTempDir();
  return { path, [Symbol.asyncDispose]: () => Deno.remove(path, { recursive: true }) };
}

/** The names in a folder, sorted. */
export function namesIn(folder: string): string[] {
  return [...Deno.readDirSync(folder)].map(({ name }) => name).sort();
}

/** The files below a folder with their text. */
export function textsIn(folder: string, below = ""): Record<string, string> {
  const texts: Record<string, string> = {};
  for (const { name, isDirectory } of [...Deno.readDirSync(folder)].sort((a, b) => a.name < b.name ? -1 : 1)) {
    if (isDirectory) Object.assign(texts, textsIn(`${folder}/${name}`, `${below}${name}/`));
    else texts[below + name] = Deno.readTextFileSync(`${folder}/${name}`);
  }
  return texts;
}
