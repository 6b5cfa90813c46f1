import { OutputError } from "../errors.ts";
import { writeFileAtomically } from "../output/file.ts";
import { type TensorEntry, writeSafetensors } from "./safetensors/writer.ts";
import { isPickle } from "./source/pickle.ts";

/**
 * Refuses names that say of a safetensors file that it is a pickle: neither this project nor others
 * would load it.
 *
 * @throws {OutputError} for a name that ends in .bin, .ckpt, .pt, .pth, .pkl or .pickle
 */
export function checkTensorsName(path: string): void {
  if (!isPickle(path)) return;
  throw new OutputError(
    `Cannot write ${path} as its ending says that it is a pickle, and it is written as safetensors: ` +
      "name it .safetensors",
    { path },
  );
}

/**
 * Writes a safetensors file as `writeFileAtomically()` does.
 *
 * @throws {OutputError} as `writeFileAtomically()` does, or for the name of a pickle
 * @throws {SafetensorsError} as `writeSafetensors()` does
 */
export async function saveSafetensors(
  path: string,
  entries: readonly TensorEntry[],
  options: { metadata?: Readonly<Record<string, string>> } = {},
): Promise<void> {
  checkTensorsName(path);
  await writeFileAtomically(path, (sink) => writeSafetensors(entries, sink, options));
}
