import { ShapeError } from "../engine/errors.ts";
import { declareKernel, input, output, spread, storage } from "../engine/kernel.ts";
import { elements, Tensor } from "../engine/tensor.ts";
import { activationCode, activationWgsl } from "./activation.ts";
import { rowLanes, workgroupSumWgsl } from "./workgroup_sum.ts";

/** Mean and sum of squared deviations of a stretch of a group, one workgroup a stretch: groups are split so that there is work for all. */
const statisticsKernel = declareKernel({
  name: "group_norm_statistics",
  bindings: { x: input("WIDE"), statistics: storage("write", "array<vec4f>") },
  params: { groups: "u32", length: "u32", splits: "u32" },
  constants: ["LANES", "WIDE"],
  wgsl: ({ WIDE }) =>
    workgroupSumWgsl + (WIDE === 4
      ? "fn total(x: vec4f) -> f32 { return dot(x, vec4f(1.0)); }"
      : "fn total(x: f32) -> f32 { return x; }") +
    /* wgsl */ `
@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let part = group.x + group.y * groups.x;
  if (part >= params.groups * params.splits) { return; }
  let step = (params.length + params.splits - 1u) / params.splits;
  let first = min(part % params.splits * step, params.length);
  let last = min(first + step, params.length);
  let start = part / params.splits * params.length;
  let count = f32((last - first) * u32(WIDE));
  var sum = x_at(start) * 0.0;
  for (var i = first + lane; i < last; i += LANES) { sum += x_at(start + i); }
  let mean = sum_over_lanes(total(sum), lane) / max(count, 1.0);
  var squares = x_at(start) * 0.0;
  for (var i = first + lane; i < last; i += LANES) { let d = x_at(start + i) - mean; squares = fma(d, d, squares); }
  let deviation = sum_over_lanes(total(squares), lane);
  if (lane == 0u) { statistics[part] = vec4f(count, mean, deviation, 0.0); }
}`,
  grid: ({ groups, splits }) => spread(groups * splits),
  cost: ({ groups, length }, { WIDE }) => ({
    flops: 5 * groups * length * (WIDE as number),
    bytes: 4 * groups * length * (WIDE as number),
  }),
});

/** Normalises, scales and shifts, and applies SiLU in the same pass. A workgroup takes a stretch of one channel. */
const applyKernel = declareKernel({
  name: "group_norm_apply",
  bindings: {
    x: input("WIDE"),
    statistics: storage("read", "array<vec4f>"),
    weight: input(1),
    bias: input(1),
    y: output("WIDE"),
  },
  params: {
    planes: "u32", // channels of all batch elements in this run
    length: "u32", // of a channel
    channels: "u32",
    first_channel: "u32",
    channels_per_group: "u32",
    splits: "u32",
    chunks: "u32",
    epsilon: "f32",
  },
  constants: ["WIDE", "ACTIVATION"],
  wgsl: (constants) =>
    activationWgsl(constants) +
    (constants.WIDE === 4
      ? "fn finish(x: vec4f) -> vec4f { return activate(x); }"
      : "fn finish(x: f32) -> f32 { return activate(vec4f(x)).x; }") +
    /* wgsl */ `
const CHUNK = 512u;
@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let job = group.x + group.y * groups.x;
  let plane = job / params.chunks;
  if (plane >= params.planes) { return; }
  // Chan's merge of the stretches: count, mean, squared deviations.
  let part = plane / params.channels_per_group * params.splits;
  var merged = statistics[part];
  for (var s = 1u; s < params.splits; s++) {
    let next = statistics[part + s];
    let count = merged.x + next.x;
    let gap = next.y - merged.y;
    merged = vec4f(count, merged.y + gap * next.x / count, merged.z + next.z + gap * gap * merged.x * next.x / count, 0.0);
  }
  let channel = (params.first_channel + plane) % params.channels;
  let scale = inverseSqrt(merged.z / merged.x + params.epsilon) * weight_at(channel);
  let shift = bias_at(channel) - merged.y * scale;
  let first = job % params.chunks * CHUNK;
  let last = min(first + CHUNK, params.length);
  for (var i = first + lane; i < last; i += 64u) {
    let at = plane * params.length + i;
    y_put(at, finish(x_at(at) * scale + shift));
  }
}`,
  grid: ({ planes, chunks }) => spread(planes * chunks),
  cost: ({ planes, length }, { WIDE }) => ({
    flops: 6 * planes * length * (WIDE as number),
    bytes: 8 * planes * length * (WIDE as number),
  }),
});

/** Options of {@linkcode groupNorm}. */
export interface GroupNormOptions {
  readonly groups: number;
  /** [C] */
  readonly weight: Tensor;
  /** [C] */
  readonly bias: Tensor;
  readonly epsilon: number;
  /** SiLU follows group norm all over the UNet and the VAE. */
  readonly activation?: "silu";
}

/**
 * Group normalisation (1803.08494): channels in `groups` groups, each group of each batch element to mean 0 and variance 1, then · weight + bias.
 *
 * @param x [B, C, …]. Tensors beyond the device's largest binding are taken in windows of whole groups.
 * @throws {ShapeError} when the groups do not divide the channels, or weight and bias are not [C]
 */
export function groupNorm(x: Tensor, options: GroupNormOptions): Tensor {
  const { groups, weight, bias, epsilon, activation } = options;
  const { gpu } = x;
  const [batch, channels, ...rest] = x.shape;
  if (channels === undefined || channels % groups !== 0 || weight.size !== channels || bias.size !== channels) {
    throw new ShapeError(
      `Cannot normalise [${
        x.shape.join(", ")
      }] in ${groups} groups by weight [${weight.shape}] and bias [${bias.shape}] as the groups must divide the channels, and both hold one number a channel`,
      [x.shape, weight.shape, bias.shape],
    );
  }
  const plane = elements(rest), channelsPerGroup = channels / groups;
  const wide = plane % 4 === 0 ? 4 : 1;
  const y = Tensor.empty(gpu, x.shape);
  if (y.size === 0) return y;
  const length = channelsPerGroup * plane / wide;
  // Enough stretches for a GPU's cores; a software device has few, and each stretch costs a dispatch's bookkeeping.
  const splits = gpu.info.deviceClass === "software" ? 1 : Math.min(16, Math.max(1, Math.floor(length / 1024)));
  const groupBytes = channelsPerGroup * plane * 4;
  const inAWindow = Math.max(1, Math.floor(gpu.info.limits.maxStorageBufferBindingSize / groupBytes));
  for (let first = 0; first < batch * groups; first += inAWindow) {
    const count = Math.min(inAWindow, batch * groups - first);
    const whole = count === batch * groups;
    const at = first * channelsPerGroup * plane, size = count * channelsPerGroup * plane;
    const xs = whole ? x : x.window(at, size), ys = whole ? y : y.window(at, size);
    const statistics = Tensor.empty(gpu, [count * splits, 4]);
    statisticsKernel.run(gpu, { x: xs, statistics }, { groups: count, length, splits }, {
      LANES: rowLanes(gpu, length),
      WIDE: wide,
    });
    applyKernel.run(
      gpu,
      { x: xs, statistics, weight, bias, y: ys },
      {
        planes: count * channelsPerGroup,
        length: plane / wide,
        channels,
        first_channel: first * channelsPerGroup % channels,
        channels_per_group: channelsPerGroup,
        splits,
        chunks: Math.ceil(plane / wide / 512),
        epsilon,
      },
      { WIDE: wide, ACTIVATION: activationCode(activation) },
    );
    statistics[Symbol.dispose]();
  }
  return y;
}
