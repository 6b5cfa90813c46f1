/**
 * Kernels: typed WGSL declarations, and the operations built from them. For people who write
 * kernels of their own.
 *
 * A declaration names the bindings, the uniform params and the WGSL. The engine declares them in
 * WGSL: `params.NAME`, and for each binding `NAME_at(i)` or `NAME_put(i, value)`, which convert
 * from f32 or f16. `run()` records a dispatch on tensors by these names.
 *
 * ```ts
 * import { declareKernel, Gpu, input, output, spread, Tensor } from "@bluerose/bluerose/kernels";
 *
 * const square = declareKernel({
 *   name: "square",
 *   bindings: { x: input(), y: output() },
 *   params: { size: "u32" },
 *   wgsl: `
 * @compute @workgroup_size(64)
 * fn main(
 *   @builtin(workgroup_id) group: vec3u,
 *   @builtin(num_workgroups) groups: vec3u,
 *   @builtin(local_invocation_index) lane: u32,
 * ) {
 *   let i = (group.x + group.y * groups.x) * 64u + lane; // spread() folds over x and y
 *   if (i < params.size) { y_put(i, x_at(i) * x_at(i)); }
 * }`,
 *   grid: ({ size }) => spread(Math.ceil(size / 64)),
 *   cost: ({ size }) => ({ flops: size, bytes: size * 8 }),
 * });
 *
 * using gpu = await Gpu.request();
 * using x = Tensor.from(gpu, new Float32Array([1, 2, 3]), [3]);
 * using y = Tensor.empty(gpu, [3]);
 * square.run(gpu, { x, y }, { size: 3 });
 * console.log(await y.data()); // 1, 4, 9
 * ```
 *
 * @module
 */

// Devices, tensors and errors
export * from "../engine/mod.ts";

// Declarations
export {
  type Binding,
  type ConstantType,
  type ConstantTypes,
  type ConstantValue,
  type ConstantValues,
  type Cost,
  declareKernel,
  type Grid,
  input,
  Kernel,
  type KernelDeclaration,
  output,
  type Scalar,
  spread,
  storage,
} from "../engine/kernel/kernel.ts";
export type { NoConstants } from "../engine/kernel/declaration.ts";

// Matrix products
export { matmul, type MatmulOptions } from "./gemm/matmul.ts";
export type { GemmOptions } from "./gemm/gemm.ts";
export { geglu } from "./gemm/gated_product.ts";
export type { TileShape } from "./gemm/tile.ts";

// Convolution
export {
  type ChannelBias,
  conv2d,
  type Conv2dOptions,
  type ConvPath,
  packConvWeight,
  type PackedConvWeight,
} from "./conv/conv2d.ts";

// Attention
export { attention, type AttentionOptions } from "./attention/attention.ts";
export type { AttentionForm, AttentionForms, AttentionPath, SubgroupAttentionShape } from "./attention/form.ts";
export type { MatrixAttentionShape } from "./attention/matrix_shape.ts";
export type { WorkgroupAttentionShape } from "./attention/workgroup_shape.ts";

// Normalization and activation
export { groupNorm, type GroupNormOptions } from "./norm/group_norm.ts";
export { layerNorm, type LayerNormOptions } from "./norm/layer_norm.ts";
export { activate } from "./shape/activate.ts";
export type { Activation } from "./wgsl/activation.ts";

// Shapes and elements
export { concat } from "./shape/concat.ts";
export { slice } from "./shape/slice.ts";
export { transpose } from "./shape/transpose.ts";
export { embedding } from "./shape/embedding.ts";
export { clamp } from "./shape/clamp.ts";
export { rescaleGuided } from "./shape/rescale_guided.ts";
export { sinusoids } from "./shape/sinusoids.ts";
export { guide } from "./shape/guide.ts";
export { add, linearCombination, type LinearTerm } from "./shape/linear_combination.ts";

// Tuning
export {
  type AdapterTuning,
  parseTuning,
  type TileKind,
  type Tiles,
  type TunedProduct,
  type Tuning,
  TuningError,
} from "./tuning.ts";
