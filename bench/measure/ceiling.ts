/**
 * Measures the limits of the device: arithmetic without memory access, memory traffic without
 * arithmetic, and a dispatch without either.
 *
 * @module
 */
import type { Gpu } from "../../engine/gpu.ts";
import { declareKernel, spread, storage } from "../../engine/kernel/kernel.ts";
import { Tensor } from "../../engine/tensor.ts";
import { policyOf } from "../../kernels/policy.ts";
import { type DeviceTiming, replayedWork, time, type TimingOptions } from "./timing.ts";

/** The two limits of a roofline, and the fixed cost of a dispatch. */
export interface Ceiling {
  /** f32 multiplications and additions, in 10⁹ per second. */
  readonly gflops: number;
  /** The same in f64. Undefined where the device does not support it. */
  readonly gflopsF64?: number;
  /** Bytes read and written by a kernel, in 10⁹ per second. */
  readonly gbps: number;
  /**
   * Bytes read and written by buffer copies, in 10⁹ per second. For comparison; not a limit of
   * kernels.
   */
  readonly bufferGbps: number;
  /**
   * Time of a dispatch that computes nothing, one of many: what recording it, the driver and the
   * device take whatever the kernel does. Absent from records before 27 November 2026.
   */
  readonly dispatchMs?: number;
}

const lanes = 64;
/** Number of fma steps in the unrolled loop body. */
const depth = 64;

/**
 * Chains of fma without memory access. ACCUMULATORS vec4 advance `depth` steps in straight-line
 * code. Each step depends on the one before, so several independent chains are needed to fill the
 * pipelines. Their steps are interleaved, since CPU compilers keep the order of the source. A
 * factor below 1 keeps the values finite.
 */
const arithmeticKernel = declareKernel({
  name: "ceiling_arithmetic",
  bindings: { y: storage("write", "array<vec4<real>>") },
  params: { turns: "u32", factor: "f32", term: "f32" },
  constants: { real: "type", ACCUMULATORS: "u32", WORKGROUPS: "u32" },
  wgsl: ({ ACCUMULATORS }) => {
    const names = Array.from({ length: ACCUMULATORS }, (_, i) => `a${i}`);
    const steps: string[] = [];
    for (let step = 0; step < depth; step++) {
      const before = (name: string) => step === 0 ? name : `${name}_${step - 1}`;
      steps.push(names.map((name) => `let ${name}_${step} = fma(${before(name)}, factor, term);`).join(" "));
    }
    steps.push(names.map((name) => `${name} = ${name}_${depth - 1};`).join(" "));
    return /* wgsl */ `
@compute @workgroup_size(${lanes})
fn main(@builtin(global_invocation_id) id: vec3u) {
  let factor = vec4<real>(real(params.factor));
  let term = vec4<real>(real(params.term));
  ${names.map((name, i) => `var ${name} = vec4<real>(real(f32(id.x + ${i}u)));`).join("\n  ")}
  for (var turn = 0u; turn < params.turns; turn++) {
    ${steps.join("\n    ")}
  }
  y[id.x] = ${names.join(" + ")};
}`;
  },
  grid: (_, { WORKGROUPS }) => [WORKGROUPS, 1, 1],
  cost: ({ turns }, { ACCUMULATORS, WORKGROUPS }) => ({
    flops: 2 * 4 * ACCUMULATORS * depth * turns * lanes * WORKGROUPS,
    bytes: 0,
  }),
});

/**
 * y = x with WORDS words per invocation, neighboring invocations at neighboring addresses. Software
 * devices prefer 64 bytes per access, GPUs 16.
 */
const copyKernel = declareKernel({
  name: "ceiling_copy",
  bindings: { x: storage("read", "array<word>"), y: storage("write", "array<word>") },
  params: { words: "u32" },
  constants: { word: "type", WORDS: "u32" },
  wgsl: ({ WORDS }) => {
    const each = (line: (i: number) => string) => Array.from({ length: WORDS }, (_, i) => line(i)).join(" ");
    return /* wgsl */ `
@compute @workgroup_size(${lanes})
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let at = (group.x + group.y * groups.x) * ${lanes}u * WORDS + lane;
  if (at + ${lanes}u * (WORDS - 1u) >= params.words) { return; }
  ${each((i) => `let v${i} = x[at + ${i * lanes}u];`)}
  ${each((i) => `y[at + ${i * lanes}u] = v${i};`)}
}`;
  },
  grid: ({ words }, { WORDS }) => spread(Math.floor(words / (lanes * WORDS))),
  cost: ({ words }, { word }) => ({ flops: 0, bytes: 2 * words * (word === "vec4f" ? 16 : 64) }),
});

/**
 * A workgroup that returns at once. As other kernels do, each dispatch writes what the one before
 * wrote, so that a GPU cannot overlap them.
 */
const emptyKernel = declareKernel({
  name: "ceiling_dispatch",
  bindings: { y: storage("write", "array<f32>") },
  params: { invocations: "u32" },
  wgsl: /* wgsl */ `
@compute @workgroup_size(${lanes})
fn main(@builtin(global_invocation_id) id: vec3u) {
  if (id.x >= params.invocations) { return; }
  y[id.x] = 1.0;
}`,
  grid: () => [1, 1, 1],
  cost: () => ({ flops: 0, bytes: 0 }),
});

/** Measures the limits: the best of a few variants of each kernel. */
export async function measureCeiling(gpu: Gpu, options: TimingOptions & DeviceTiming): Promise<Ceiling> {
  const gflops = await peakArithmetic(gpu, "f32", options);
  const gflopsF64 = gpu.info.f64 ? await peakArithmetic(gpu, "f64", options) : undefined;
  const { gbps, bufferGbps } = await peakCopy(gpu, options);
  const dispatchMs = await emptyDispatch(gpu, options);
  return { gflops, gflopsF64, gbps, bufferGbps, dispatchMs };
}

async function emptyDispatch(gpu: Gpu, options: TimingOptions & DeviceTiming): Promise<number> {
  using y = Tensor.empty(gpu, [lanes]);
  using work = replayedWork(gpu, () => emptyKernel.run(gpu, { y }, { invocations: 0 }), options);
  return (await time(work, options)).minMs;
}

async function peakArithmetic(
  gpu: Gpu,
  real: "f32" | "f64",
  options: TimingOptions & DeviceTiming,
): Promise<number> {
  const { isSoftware } = policyOf(gpu);
  const WORKGROUPS = isSoftware ? 256 : 8192;
  using y = Tensor.empty(gpu, [WORKGROUPS * lanes * 4], real);
  let best = 0;
  for (const ACCUMULATORS of [1, 2, 3, 4]) {
    const record = () =>
      arithmeticKernel.run(gpu, { y }, { turns: isSoftware ? 16 : 64, factor: 0.5, term: 0.25 }, {
        real,
        ACCUMULATORS,
        WORKGROUPS,
      });
    const { flops } = gpu.tally(record);
    using work = replayedWork(gpu, record, options);
    const { minMs } = await time(work, options);
    best = Math.max(best, flops / minMs / 1e6);
  }
  return best;
}

async function peakCopy(
  gpu: Gpu,
  options: TimingOptions & DeviceTiming,
): Promise<{ gbps: number; bufferGbps: number }> {
  // As large as the device can bind, so that the cache of a GPU (up to 50 MB) matters little.
  const most = policyOf(gpu).isSoftware ? 2 ** 25 : 2 ** 29;
  const bytes = 2 ** Math.floor(Math.log2(Math.min(gpu.info.limits.maxStorageBufferBindingSize, most)));
  using x = Tensor.empty(gpu, [bytes / 4]);
  using y = Tensor.empty(gpu, [bytes / 4]);
  let gbps = 0;
  for (const word of ["vec4f", "mat4x4f"]) {
    for (const WORDS of [1, 4]) {
      const record = () =>
        copyKernel.run(gpu, { x, y }, { words: bytes / (word === "vec4f" ? 16 : 64) }, { word, WORDS });
      using work = replayedWork(gpu, record, options);
      const { minMs } = await time(work, options);
      gbps = Math.max(gbps, 2 * bytes / minMs / 1e6);
    }
  }
  const copy = () =>
    gpu.context.recorder.copy({ source: x.buffer, sourceOffset: 0, target: y.buffer, targetOffset: 0, bytes });
  using work = replayedWork(gpu, copy, options);
  const { minMs } = await time(work, options);
  return { gbps, bufferGbps: 2 * bytes / minMs / 1e6 };
}
