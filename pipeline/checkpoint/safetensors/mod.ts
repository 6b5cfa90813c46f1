/**
 * Reads safetensors files: LoRAs, edits and weights that were saved. It needs no device, and none
 * of the packages that pictures need.
 *
 * ```ts
 * import { fileSource, SafetensorsFile } from "@bluerose/bluerose/safetensors";
 *
 * using file = await SafetensorsFile.open(await fileSource("lora.safetensors"));
 * for (const [name, { shape }] of file.tensors) console.log(name, shape, await file.float32(name));
 * ```
 *
 * @module
 */

export { blobSource, type ByteSource, bytesSource } from "../source/byte_source.ts";
export { fileSource } from "../source/disk.ts";
export type { SafetensorsDtype, TensorInfo } from "./format.ts";
export { SafetensorsFile } from "./safetensors_file.ts";
export type { Weights } from "./weights.ts";
