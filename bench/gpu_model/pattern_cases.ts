/**
 * Kernels whose accesses of workgroup memory have known patterns, to check the static GPU model:
 *
 *     deno task bench:gpu-model . navi21,navi31,vega20 --cases bench/gpu_model/pattern_cases.ts
 *
 * tests/bench/gpu_model/patterns/ keeps what it captures, a file per GPU: of each kernel a heading,
 * three statistics and the assembly without encodings.
 *
 * @module
 */
import type { Gpu } from "../../engine/gpu.ts";
import type { ModelCase } from "./cases.ts";

/** A pattern: the element of workgroup memory that a thread writes, and the one that it reads. */
export interface Pattern {
  /** WGSL's type of an element. */
  readonly type: "f32" | "vec2f" | "vec4f";
  /** Expressions of the thread's index `t`, 0…127. */
  readonly write: string;
  readonly read: string;
}

/** Patterns by name. Two waves of 64 exchange elements, so that the barrier between them stays. */
export const patterns: Readonly<Record<string, Pattern>> = {
  "stride 1": { type: "f32", write: "t", read: "127u - t" },
  "stride 32": { type: "f32", write: "(t & 63u) * 32u + (t >> 6u)", read: "(127u - t) & 63u" },
  "stride 33": { type: "f32", write: "(t & 63u) * 33u + (t >> 6u)", read: "((127u - t) & 63u) * 33u" },
  "broadcast": { type: "f32", write: "t", read: "127u - (t & 64u)" },
  "vec2 stride 1": { type: "vec2f", write: "t", read: "127u - t" },
  "vec2 stride 16": { type: "vec2f", write: "t", read: "((127u - t) & 63u) * 16u" },
  "vec4 stride 1": { type: "vec4f", write: "t", read: "127u - t" },
  "vec4 stride 8": { type: "vec4f", write: "t", read: "((127u - t) & 63u) * 8u" },
  "vec4 column of 10": { type: "vec4f", write: "t", read: "(127u - t) % 10u" },
};

/** The WGSL of a pattern. */
const wgslOf = ({ type, write, read }: Pattern) => `
@group(0) @binding(0) var<storage, read> x: array<${type}>;
@group(0) @binding(1) var<storage, read_write> y: array<${type}>;
var<workgroup> shared_x: array<${type}, 2112>;

@compute @workgroup_size(128)
fn main(@builtin(local_invocation_index) t: u32) {
  shared_x[${write}] = x[t];
  workgroupBarrier();
  y[t] = shared_x[${read}];
}`;

function compile({ context: { device } }: Gpu, name: string, pattern: Pattern): void {
  const module = device.createShaderModule({ code: wgslOf(pattern) });
  device.createComputePipeline({ label: name, layout: "auto", compute: { module } });
}

/** A case per pattern. */
export const cases: Readonly<Record<string, ModelCase>> = Object.fromEntries(
  Object.entries(patterns).map(([name, pattern]) => [name, (gpu: Gpu) => compile(gpu, name, pattern)]),
);
