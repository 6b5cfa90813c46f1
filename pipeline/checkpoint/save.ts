import { writeFileAtomically } from "../output/file.ts";
import { type TensorEntry, writeSafetensors } from "./safetensors/writer.ts";

/**
 * Writes a safetensors file as `writeFileAtomically()` does.
 *
 * @throws {OutputError} as `writeFileAtomically()` does
 * @throws {SafetensorsError} as `writeSafetensors()` does
 */
export async function saveSafetensors(
  path: string,
  entries: readonly TensorEntry[],
  options: { metadata?: Readonly<Record<string, string>> } = {},
): Promise<void> {
  await writeFileAtomically(path, (sink) => writeSafetensors(entries, sink, options));
}
