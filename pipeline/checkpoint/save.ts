import { OutputError } from "../errors.ts";
import type { ByteSink } from "../output/byte_sink.ts";
import { writeFileAtomically } from "../output/file.ts";
import { type TensorEntry, writeSafetensors } from "./safetensors/writer.ts";
import { isSafetensors } from "./safetensors/format.ts";
import { isPickle } from "./source/pickle.ts";
import { isWeightsFile } from "./source/weights_file.ts";

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
 * Refuses names of folders that loading takes for names of files.
 *
 * @throws {OutputError} for a name that ends like a file of weights
 */
export function checkFolderName(path: string): void {
  if (!isWeightsFile(path.replace(/[/\\]+$/, ""))) return;
  throw new OutputError(
    `Cannot write the folder ${path} as loading would take it for a file of weights, by its ending: leave the ending ` +
      "out, or save a single .safetensors file",
    { path },
  );
}

/**
 * Refuses names of adapter files that loaders, ours and others, would not take for safetensors.
 *
 * @throws {OutputError} for a name that does not end in .safetensors or .sft
 */
export function checkAdapterName(path: string): void {
  checkTensorsName(path);
  if (isSafetensors(path)) return;
  const suggestion = /\.(png|jpe?g|json|zip|txt|lora|safetensor)$/i.test(path) ? path.replace(/\.[^.]+$/, "") : path;
  throw new OutputError(
    `Cannot write ${path} as loaders know such a file by the ending .safetensors: name it ${suggestion}.safetensors`,
    { path },
  );
}

/**
 * Writes a safetensors file as `writeFileAtomically()` does, or hands its bytes to a function.
 *
 * @throws {OutputError} as `writeFileAtomically()` does, or for the name of a pickle
 * @throws {SafetensorsError} as `writeSafetensors()` does
 */
export async function saveSafetensors(
  target: string | ByteSink,
  entries: readonly TensorEntry[],
  options: { metadata?: Readonly<Record<string, string>> } = {},
): Promise<void> {
  if (typeof target !== "string" && typeof target !== "function") {
    const path = String(target);
    throw new OutputError(`Cannot write to ${path}: it must be a path, or a function that receives bytes`, { path });
  }
  if (typeof target !== "string") return void await writeSafetensors(entries, target, options);
  checkTensorsName(target);
  await writeFileAtomically(target, (sink) => writeSafetensors(entries, sink, options));
}
