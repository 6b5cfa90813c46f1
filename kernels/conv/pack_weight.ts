import { declareKernel, input, output } from "../../engine/kernel/kernel.ts";
import { Tensor } from "../../engine/tensor.ts";
import { flatGrid, flatWgsl } from "../wgsl/elementwise.ts";

const packKernel = declareKernel({
  name: "pack_conv_weight",
  bindings: { weight: input(1), packed: output(4) },
  params: { vec4s: "u32", in_channels: "u32", kernel_height: "u32", kernel_width: "u32" },
  wgsl: /* wgsl */ `
fn one(filter_start: u32, channel: u32, tap: u32) -> f32 {
  let value = weight_at(filter_start + min(channel, params.in_channels - 1u) * (params.kernel_height * params.kernel_width) + tap);
  return select(0.0, value, channel < params.in_channels);
}
fn element(i: u32) { // [OC][KY][IC / 4][KX]
  let channel_vec4s = (params.in_channels + 3u) / 4u;
  let kx = i % params.kernel_width;
  let channel = i / params.kernel_width % channel_vec4s * 4u;
  let row = i / params.kernel_width / channel_vec4s; // oc · KH + ky
  let tap = row % params.kernel_height * params.kernel_width + kx;
  let start = row / params.kernel_height * params.in_channels * params.kernel_height * params.kernel_width;
  packed_put(i, vec4f(one(start, channel, tap), one(start, channel + 1u, tap), one(start, channel + 2u, tap), one(start, channel + 3u, tap)));
}
${flatWgsl("params.vec4s")}`,
  grid: ({ vec4s }) => flatGrid(vec4s),
  cost: ({ vec4s }) => ({ flops: 0, bytes: 32 * vec4s }),
});

/**
 * A convolution's weight in the layout that the kernels read: [OC][KH][⌈IC / 4⌉][KW] of vec4 over
 * input channels, padded with zeros.
 */
export interface PackedConvWeight extends Disposable {
  /** [OC, KH, ⌈IC / 4⌉, KW, 4], of the weight's dtype. */
  readonly tensor: Tensor;
  /** OC, the number of output channels. */
  readonly outChannels: number;
  /** IC, the number of input channels. */
  readonly inChannels: number;
  /** KH, the height of the filter. */
  readonly kernelHeight: number;
  /** KW, the width of the filter. */
  readonly kernelWidth: number;
}

/**
 * Packs a convolution's weight for {@linkcode conv2d}. The result keeps the dtype. The weight may
 * be disposed afterwards. A 1×1 weight with a multiple of 4 input channels is packed already; the
 * result then shares its memory.
 *
 * @param weight [OC, IC, KH, KW], f32 or f16
 * @throws {ShapeError} when the weight does not have four axes
 */
export function packConvWeight(weight: Tensor): PackedConvWeight {
  const { gpu, dtype } = weight;
  const [outChannels, inChannels, kernelHeight, kernelWidth] = weight.dims(4);
  const channelVec4 = Math.ceil(inChannels / 4);
  const shape = [outChannels, kernelHeight, channelVec4, kernelWidth, 4];
  let tensor: Tensor;
  if (kernelHeight * kernelWidth === 1 && inChannels % 4 === 0) tensor = weight.reshape(shape);
  else {
    tensor = Tensor.empty(gpu, shape, dtype, { exact: true });
    packKernel.run(gpu, { weight, packed: tensor }, {
      vec4s: tensor.size / 4,
      in_channels: inChannels,
      kernel_height: kernelHeight,
      kernel_width: kernelWidth,
    });
  }
  return {
    tensor,
    outChannels,
    inChannels,
    kernelHeight,
    kernelWidth,
    [Symbol.dispose]: () => tensor[Symbol.dispose](),
  };
}

/**
 * Undoes {@linkcode packConvWeight} on the host.
 *
 * @param elements the packed tensor's elements
 * @returns [OC, IC, KH, KW]
 */
export function unpackConvWeight(
  { outChannels, inChannels, kernelHeight, kernelWidth }: PackedConvWeight,
  elements: Float32Array,
): Float32Array<ArrayBuffer> {
  const weight = new Float32Array(outChannels * inChannels * kernelHeight * kernelWidth);
  const quads = Math.ceil(inChannels / 4);
  let at = 0;
  for (let out = 0; out < outChannels; out++) {
    for (let channel = 0; channel < inChannels; channel++) {
      for (let y = 0; y < kernelHeight; y++) {
        const row = ((out * kernelHeight + y) * quads + (channel >> 2)) * kernelWidth;
        for (let x = 0; x < kernelWidth; x++) weight[at++] = elements[4 * (row + x) + (channel & 3)];
      }
    }
  }
  return weight;
}
