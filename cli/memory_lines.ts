import { byteText, countText } from "../engine/inspect.ts";
import type { MemoryPrediction } from "../pipeline/inspection.ts";

/** A prediction of memory as lines for the terminal. */
export function memoryLines(memory: MemoryPrediction): string[] {
  const { device, images, width, height, activations, weights, decodingBytes: { whole, tiled } } = memory;
  const parts = Object.entries(weights).map(([part, bytes]) => `${part} ${byteText(bytes)}`).join(", ");
  const pictures = `${countText(images, "picture")} of ${width} × ${height}`;
  const decoding = [
    whole === undefined ? "beyond the limits as a whole" : `${byteText(whole)} as a whole`,
    ...(tiled === undefined ? [] : [`${byteText(tiled)} in tiles`]),
  ].join(", ");
  return [
    `memory on ${device}, for ${pictures} under guidance, activations in ${activations}:`,
    `  weights    ${byteText(memory.weightsBytes)} (${parts})`,
    `  denoising  ${byteText(memory.denoisingBytes)} beside them`,
    `  decoding   ${decoding}${
      tiled === undefined ? "" : `; this call decodes ${memory.tiled ? "in tiles" : "whole"}`
    }`,
    `  at most    ${byteText(memory.peakBytes)}, and ${byteText(memory.reservedBytes)} with buffers kept for reuse`,
    `  limits     ${byteText(memory.maxBufferSize)} a buffer, ${
      byteText(memory.maxStorageBufferBindingSize)
    } a binding`,
    ...(memory.problem === undefined ? [] : [`  ✗ this call would fail: ${memory.problem}`]),
  ];
}
