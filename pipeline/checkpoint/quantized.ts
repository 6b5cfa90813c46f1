/** Recognizes quantized weights, which are not supported, by their types and companion tensors. */

import type { Weights } from "./safetensors/weights.ts";

/** Tensors that only a scheme of quantization writes beside the weights. */
const companions: readonly { readonly key: RegExp; readonly scheme: string }[] = [
  { key: /\.(SCB|weight_format|absmax|quant_map|nested_absmax)$|\.quant_state\./, scheme: "bitsandbytes" },
  { key: /\.(qweight|qzeros|g_idx)$/, scheme: "GPTQ or AWQ" },
  { key: /\.weight\._(data|scale|shift)$/, scheme: "quanto" },
  { key: /(^|\.)(scaled_fp8|scale_weight|weight_scale|weight_scale_2|comfy_quant)$/, scheme: "scaled fp8 of ComfyUI" },
];

/**
 * The reason why quantized weights are not loaded, in the form "its weights are quantized …";
 * `undefined` for other weights. Plain float8 weights are not quantized in this sense.
 */
export function quantizedReason(weights: Weights): string | undefined {
  const keys = [...weights.tensors.keys()];
  for (const { key, scheme } of companions) {
    const found = keys.find((name) => key.test(name));
    if (found !== undefined) return reason(scheme, found, weights.tensors.get(found)!.dtype);
  }
  const integer = keys.find((name) =>
    name.endsWith(".weight") && /^(I8|U8|F4|I32|U32)$/.test(weights.tensors.get(name)!.dtype)
  );
  return integer === undefined
    ? undefined
    : reason("a scheme unknown here", integer, weights.tensors.get(integer)!.dtype);
}

function reason(scheme: string, key: string, dtype: string): string {
  return `its weights are quantized by ${scheme} (${key} is ${dtype}); ` +
    "supported: F32, F16, BF16, F64 and plain float8 (F8_E4M3, F8_E5M2)";
}
