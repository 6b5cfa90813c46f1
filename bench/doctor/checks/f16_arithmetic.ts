import type { Gpu } from "../../../engine/gpu.ts";
import { elements, Tensor } from "../../../engine/tensor.ts";
import { attention } from "../../../kernels/attention/attention.ts";
import { attentionFormOn } from "../../../kernels/attention/form.ts";
import { conv2d, packConvWeight } from "../../../kernels/conv/conv2d.ts";
import { matmul } from "../../../kernels/gemm/matmul.ts";
import { policyOf } from "../../../kernels/policy.ts";
import type { TileKind } from "../../../kernels/tuning.ts";
import { attentionProblem } from "../../oracles/attention.ts";
import { convolution, type ConvolutionSizes } from "../../oracles/convolution.ts";
import { product, transposed } from "../../oracles/matrices.ts";
import { f16ArithmeticTolerance, randomArray, randomF16 } from "../../oracles/numbers.ts";
import type { Check, Outcome } from "../check.ts";

const rounded = { allowF16Operands: true } as const;

/** A check of an operation as a device computes it that was opened with f16 arithmetic. */
function inF16Arithmetic({ operation, shape, tolerance = f16ArithmeticTolerance, run }: {
  readonly operation: string;
  readonly shape: string;
  readonly tolerance?: number;
  readonly run: (gpu: Gpu) => Outcome;
}): Check {
  return {
    operation,
    shape: `${shape}, f16 arithmetic`,
    variant: "f16 arithmetic",
    tolerance,
    unsupportedReason: ({ info }) =>
      info.features.has("shader-f16") ? undefined : "the device does not have shader-f16",
    run: (gpu) => gpu.context.describedAs({ arithmetic: "f16" }, () => run(gpu)),
  };
}

/** A product on the tile of large ones, or on that of its size. */
function productCheck([m, k, n]: readonly [number, number, number], kind?: TileKind): Check {
  return inF16Arithmetic({
    operation: "matmul",
    shape: `${m}×${k}×${n}, Bᵀ, f16 weight${kind === undefined ? "" : `, tile of "${kind}"`}`,
    run: (gpu) => {
      const a = randomArray(m * k, 1), b = randomF16(k * n, 2);
      const left = Tensor.from(gpu, a, [m, k]);
      const right = Tensor.from(gpu, Float32Array.from(transposed(b, k, n)), [n, k], "f16");
      const tile = kind && policyOf(gpu).products.tiles(rounded)[kind];
      return { tensor: matmul(left, right, { transposeB: true, tile, ...rounded }), expected: product(a, b, m, k, n) };
    },
  });
}

function convolutionCheck(sizes: ConvolutionSizes): Check {
  const { batch = 1, inChannels, outChannels, size, kernel, stride = 1, padding } = sizes;
  const where = `${batch} × ${size.join("×")} ${inChannels}→${outChannels}`;
  return inF16Arithmetic({
    operation: `conv2d ${kernel.join("×")}`,
    shape: `${where}${stride > 1 ? `, stride ${stride}` : ""}`,
    run: (gpu) => {
      const inShape = [batch, inChannels, ...size], weightShape = [outChannels, inChannels, ...kernel];
      const x = randomArray(elements(inShape), 1), weight = randomF16(elements(weightShape), 2);
      const packed = packConvWeight(Tensor.from(gpu, weight, weightShape, "f16"));
      const tensor = conv2d(Tensor.from(gpu, x, inShape), packed, { stride, padding, ...rounded });
      return { tensor, expected: convolution(x, weight, sizes) };
    },
  });
}

/**
 * Attention in one pass: on GPUs in the form that large ones have, on software devices, which
 * compile its code for seconds, in that of its size.
 */
function attentionCheck({ t, s, dim, causal = false }: {
  readonly t: number;
  readonly s: number;
  readonly dim: number;
  readonly causal?: boolean;
}): Check {
  const heads = 2, problem = attentionProblem({ batch: 1, heads, t, s, dim, causal });
  return inF16Arithmetic({
    operation: "attention",
    shape: `${t}×${s}, ${heads} of ${dim}, one pass${causal ? ", causal" : ""}`,
    tolerance: 2 * f16ArithmeticTolerance, // of both products
    run: (gpu) => {
      const [q, k, v] = [problem.q, problem.k, problem.v].map((each, i) =>
        Tensor.from(gpu, each, [1, i === 0 ? t : s, heads * dim])
      );
      const large = policyOf(gpu).isSoftware ? {} : { batch: 2, heads: 8, t: 4096, s: 4096 };
      const form = attentionFormOn(gpu.info, "workgroup", { ...problem.sizes, ...large }, { half: true });
      return { tensor: attention(q, k, v, { heads, causal, form, ...rounded }), expected: problem.expected };
    },
  });
}

/** Products, convolutions and attention in f16 arithmetic, where the device has it. */
export const f16ArithmeticChecks: readonly Check[] = [
  productCheck([65, 52, 68]),
  productCheck([131, 100, 140], "many"),
  convolutionCheck({ batch: 2, inChannels: 12, outChannels: 20, size: [9, 12], kernel: [3, 3], padding: [1, 1, 1, 1] }),
  convolutionCheck({ batch: 1, inChannels: 8, outChannels: 33, size: [11, 13], kernel: [1, 1] }),
  attentionCheck({ t: 67, s: 83, dim: 40 }),
  attentionCheck({ t: 33, s: 33, dim: 64, causal: true }),
  attentionCheck({ t: 17, s: 45, dim: 160 }),
];
