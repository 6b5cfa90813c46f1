/** Names of weights files, of formats that are read and of formats that are named when refused. */

import { isPickle } from "./pickle.ts";

/**
 * Whether a path names a file of weights rather than a folder or a model of the hub, by its ending:
 * `.safetensors`, `.sft`, the endings of pickles, and those of other formats.
 */
export function isWeightsFile(path: string): boolean {
  return isPickle(path) || /\.(safetensors|sft|gguf|ggml|onnx|h5|msgpack|npz)$/i.test(path);
}
