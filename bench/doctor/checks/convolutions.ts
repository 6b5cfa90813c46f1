import { elements, Tensor } from "../../../engine/tensor.ts";
import { conv2d, packConvWeight, unpackConvWeight } from "../../../kernels/conv/conv2d.ts";
import type { ConvPath } from "../../../kernels/policy/convolutions.ts";
import { policyOf } from "../../../kernels/policy.ts";
import { convolution, convolutionSize, type ConvolutionSizes } from "../../oracles/convolution.ts";
import { expTolerance, f16Rounding, f32Tolerance, randomArray, randomF16 } from "../../oracles/numbers.ts";
import type { Check } from "../check.ts";

function convolutionCheck(
  sizes: ConvolutionSizes,
  { f16 = false, epilogue = false, path }: {
    readonly f16?: boolean;
    readonly epilogue?: boolean;
    /** The kernel, where the device is a software device with subgroups. Default: the policy's. */
    readonly path?: ConvPath;
  } = {},
): Check {
  const { batch = 1, inChannels, outChannels, size, kernel, stride = 1, padding, upsample } = sizes;
  const notes = [
    ...(stride > 1 ? [`stride ${stride}`] : []),
    ...(upsample ? ["upsampled"] : []),
    ...(f16 ? ["f16"] : []),
    ...(epilogue ? ["biases + silu + residual"] : []),
  ];
  const where = `${batch > 1 ? `${batch} × ` : ""}${size.join("×")} ${inChannels}→${outChannels}`;
  return {
    operation: `conv2d ${kernel.join("×")}`,
    shape: [where, ...notes].join(", "),
    tolerance: f32Tolerance(inChannels * elements(kernel)) + (epilogue ? expTolerance(8) : 0) + (f16 ? f16Rounding : 0),
    run: (gpu) => {
      const values = f16 ? randomF16 : randomArray, dtype = f16 ? "f16" : "f32";
      const inShape = [batch, inChannels, ...size], weightShape = [outChannels, inChannels, ...kernel];
      const outShape = [batch, outChannels, ...convolutionSize(sizes)];
      const x = values(elements(inShape), 1), weight = values(elements(weightShape), 2);
      const bias = randomArray(outChannels, 3), channelBias = randomArray(batch * outChannels, 4);
      const residual = values(elements(outShape), 5);
      const tensor = conv2d(
        Tensor.from(gpu, x, inShape, dtype),
        packConvWeight(Tensor.from(gpu, weight, weightShape, dtype)),
        {
          stride,
          padding,
          upsample,
          path: policyOf(gpu).isSoftware && gpu.info.subgroupSize > 0 ? path : undefined,
          ...(epilogue
            ? {
              bias: Tensor.from(gpu, bias, [outChannels]),
              channelBias: { tensor: Tensor.from(gpu, channelBias, [batch, outChannels]) },
              residual: Tensor.from(gpu, residual, outShape, dtype),
              activation: "silu",
            }
            : {}),
        },
      );
      const extras = epilogue ? { bias, channelBias, residual, silu: true } : {};
      return { tensor, expected: convolution(x, weight, sizes, extras) };
    },
  };
}

const around = [1, 1, 1, 1] as const;

/** Convolutions, and the packing of their weights. */
export const convolutionChecks: readonly Check[] = [
  {
    operation: "packConvWeight",
    shape: "7×5×3×3",
    tolerance: 0,
    run: (gpu) => {
      const weight = randomArray(7 * 5 * 9);
      const packed = packConvWeight(Tensor.from(gpu, weight, [7, 5, 3, 3]));
      const read = (elements: Float64Array) => unpackConvWeight(packed, Float32Array.from(elements));
      return { tensor: packed.tensor, expected: weight, read };
    },
  },
  convolutionCheck({ inChannels: 3, outChannels: 5, size: [5, 7], kernel: [3, 3], padding: around }),
  convolutionCheck({ batch: 2, inChannels: 12, outChannels: 20, size: [9, 12], kernel: [3, 3], padding: around }, {
    epilogue: true,
  }),
  convolutionCheck({ batch: 2, inChannels: 16, outChannels: 36, size: [8, 8], kernel: [3, 3], padding: around }, {
    f16: true,
    epilogue: true,
  }),
  convolutionCheck({ inChannels: 8, outChannels: 33, size: [11, 13], kernel: [1, 1] }),
  convolutionCheck({ inChannels: 6, outChannels: 8, size: [10, 9], kernel: [3, 3], stride: 2, padding: around }),
  convolutionCheck({ inChannels: 9, outChannels: 4, size: [8, 12], kernel: [3, 3], stride: 2, padding: [0, 0, 1, 1] }),
  convolutionCheck({ inChannels: 6, outChannels: 33, size: [9, 16], kernel: [3, 3], stride: 2, padding: around }, {
    path: "3x3",
  }),
  convolutionCheck({ batch: 2, inChannels: 40, outChannels: 33, size: [9, 16], kernel: [3, 3], padding: around }, {
    path: "3x3 stationary",
  }),
  convolutionCheck({ batch: 2, inChannels: 3, outChannels: 10, size: [5, 24], kernel: [3, 3], padding: around }, {
    path: "3x3 few inputs",
  }),
  convolutionCheck({ inChannels: 10, outChannels: 3, size: [9, 24], kernel: [3, 3], padding: around }, {
    path: "3x3 few outputs",
    epilogue: true,
  }),
  convolutionCheck({
    inChannels: 8,
    outChannels: 12,
    size: [5, 6],
    kernel: [3, 3],
    padding: around,
    upsample: [10, 12],
  }),
  convolutionCheck({ inChannels: 3, outChannels: 16, size: [28, 28], kernel: [7, 7], stride: 7 }),
];
