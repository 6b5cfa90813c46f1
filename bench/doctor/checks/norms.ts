import { elements, Tensor } from "../../../engine/tensor.ts";
import { groupNorm } from "../../../kernels/norm/group_norm.ts";
import { layerNorm } from "../../../kernels/norm/layer_norm.ts";
import { groupNormOf, layerNormOf } from "../../oracles/functions.ts";
import { expTolerance, f16Rounding, f32Tolerance, randomArray, randomF16 } from "../../oracles/numbers.ts";
import type { Check } from "../check.ts";

const epsilon = 1e-5;

function groupNormCheck(
  shape: readonly number[],
  groups: number,
  { f16 = false }: { readonly f16?: boolean } = {},
): Check {
  const [batch, channels, ...plane] = shape, silu = groups % 2 === 0;
  return {
    operation: "groupNorm",
    shape: `${shape.join("×")} in ${groups}${silu ? ", silu" : ""}${f16 ? ", f16" : ""}`,
    // The values that silu takes exp of are below 8; inverseSqrt may err by 2 ulp.
    tolerance: f32Tolerance(elements(shape) / batch / groups) + expTolerance(8) + (f16 ? f16Rounding : 0),
    run: (gpu) => {
      const x = randomF16(elements(shape), 1), weight = randomArray(channels, 2), bias = randomArray(channels, 3);
      const tensor = groupNorm(Tensor.from(gpu, x, shape, f16 ? "f16" : "f32"), {
        groups,
        weight: Tensor.from(gpu, weight, [channels]),
        bias: Tensor.from(gpu, bias, [channels]),
        epsilon,
        activation: silu ? "silu" : undefined,
      });
      const options = { groups, silu, weight, bias, epsilon };
      return { tensor, expected: groupNormOf(x, [batch, channels, elements(plane)], options) };
    },
  };
}

function layerNormCheck(rows: number, width: number, { f16 = false }: { readonly f16?: boolean } = {}): Check {
  return {
    operation: "layerNorm",
    shape: `${rows}×${width}${f16 ? ", f16" : ""}`,
    // inverseSqrt may err by 2 ulp.
    tolerance: f32Tolerance(width) + 2 ** -22 + (f16 ? f16Rounding : 0),
    run: (gpu) => {
      const x = randomF16(rows * width, 1), weight = randomArray(width, 2), bias = randomArray(width, 3);
      const tensor = layerNorm(Tensor.from(gpu, x, [rows, width], f16 ? "f16" : "f32"), {
        weight: Tensor.from(gpu, weight, [width]),
        bias: Tensor.from(gpu, bias, [width]),
        epsilon,
      });
      return { tensor, expected: layerNormOf(x, width, { weight, bias, epsilon }) };
    },
  };
}

/** Group norm and layer norm. */
export const normChecks: readonly Check[] = [
  groupNormCheck([3, 8, 5, 7], 2),
  groupNormCheck([1, 9, 31, 33], 3),
  groupNormCheck([2, 64, 8, 8], 32, { f16: true }),
  layerNormCheck(67, 33),
  layerNormCheck(5, 771),
  layerNormCheck(70, 320, { f16: true }),
];
