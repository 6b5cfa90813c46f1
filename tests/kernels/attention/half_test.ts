import { assert, assertEquals, assertNotEquals } from "@std/assert";
import { type AttentionCase, attentionProblem } from "../../../bench/oracles/attention.ts";
import { f16ArithmeticBound, f16ArithmeticTolerance } from "../../../bench/oracles/numbers.ts";
import type { Gpu } from "../../../engine/gpu.ts";
import { Tensor } from "../../../engine/tensor.ts";
import { attention, type AttentionOptions } from "../../../kernels/attention/attention.ts";
import { type AttentionForm, attentionFormOn } from "../../../kernels/attention/form.ts";
import { policyFor, policyOf, tuningName } from "../../../kernels/policy.ts";
import { gpuTest, lackOf } from "../../gpu.ts";
import { withGpuPolicy } from "../oracles.ts";

const lacking = await lackOf("shader-f16");
const inF16Arithmetic = { arithmetic: "f16" } as const;

/** What the f32 sums, softmax and exp2 add; far below {@linkcode f16ArithmeticBound}. */
const f32Error = 2 ** -14;

/**
 * For each result, the bound in workgroup.ts: Σ w|v| and Σ|q||k| by their definitions, in float64.
 */
function bounds(c: AttentionCase): Float64Array {
  const { sizes: { batch, heads, t, s, dim, causal, scale }, q, k, v } = attentionProblem(c);
  const width = heads * dim, result = new Float64Array(q.length);
  for (let b = 0; b < batch; b++) {
    for (let h = 0; h < heads; h++) {
      for (let i = 0; i < t; i++) {
        const at = (b * t + i) * width + h * dim, keyAt = (j: number) => (b * s + j) * width + h * dim;
        const seen = causal ? Math.min(s, i + 1) : s;
        const sums = Array.from({ length: seen }, (_, j) => {
          let score = 0, magnitude = 0;
          for (let d = 0; d < dim; d++) {
            score += scale * q[at + d] * k[keyAt(j) + d];
            magnitude += scale * Math.abs(q[at + d] * k[keyAt(j) + d]);
          }
          return { weight: Math.exp(score), magnitude };
        });
        const total = sums.reduce((a, { weight }) => a + weight, 0);
        const delta = f16ArithmeticBound * sums.reduce((a, { magnitude }) => Math.max(a, magnitude), 0);
        for (let d = 0; d < dim; d++) {
          const magnitude = sums.reduce((a, { weight }, j) => a + weight / total * Math.abs(v[keyAt(j) + d]), 0);
          result[at + d] = (Math.expm1(2 * delta) + f16ArithmeticBound + f32Error) * magnitude + s * 2 ** -24;
        }
      }
    }
  }
  return result;
}

/** Attention to a problem's operands, whose caller tolerates f16. */
function attend(gpu: Gpu, c: AttentionCase, options: Partial<AttentionOptions>): Tensor {
  const { sizes: { batch, heads, t, s, dim, causal, scale }, ...data } = attentionProblem(c);
  using q = Tensor.from(gpu, data.q, [batch, t, heads * dim]);
  using k = Tensor.from(gpu, data.k, [batch, s, heads * dim]);
  using v = Tensor.from(gpu, data.v, [batch, s, heads * dim]);
  return attention(q, k, v, { heads, causal, scale, allowF16Operands: true, ...options });
}

/** Fails where a result is beyond its bound, or none was rounded to f16. */
async function check(gpu: Gpu, c: AttentionCase, options: Partial<AttentionOptions>): Promise<void> {
  using y = attend(gpu, c, options);
  const actual = await y.data(), { expected } = attentionProblem(c), bound = bounds(c);
  let squared = 0, norm = 0;
  for (let i = 0; i < expected.length; i++) {
    const error = actual[i] - expected[i];
    assert(
      Math.abs(error) <= bound[i],
      `element ${i} of ${JSON.stringify(c)}: ${actual[i]}, not ${expected[i]} ± ${bound[i]}`,
    );
    squared += error ** 2;
    norm += expected[i] ** 2;
  }
  // In norm, errors of random signs cancel; they are still those of f16.
  const relative = Math.sqrt(squared / norm);
  assert(
    2 ** -14 < relative && relative < 2 * f16ArithmeticTolerance,
    `relative error of ${JSON.stringify(c)}: ${relative}`,
  );
}

/** The form that a GPU with 255 registers gets for a large attention in f16. */
function largeForm(gpu: Gpu, dim: number): AttentionForm {
  const sizes = { batch: 2, heads: 8, t: 4096, s: 4096, dim, causal: false, scale: 1 };
  return withGpuPolicy(gpu, () => policyOf(gpu).attention.formFor(sizes, { allowF16Operands: true }), "amd");
}

for (const [dim, t, s] of [[40, 67, 83], [64, 35, 64], [80, 19, 77], [160, 17, 33]]) {
  gpuTest(
    `attention in one pass in f16 arithmetic keeps the documented bound for heads of ${dim}`,
    async (gpu) => {
      const large = largeForm(gpu, dim);
      assert(large.path === "workgroup");
      // Whose code takes longest to compile.
      const form = dim === 40 ? large : { ...large, rows: 1 };
      await check(gpu, { batch: 2, heads: 2, t, s, dim }, { form });
    },
    inF16Arithmetic,
    lacking,
  );
}

gpuTest(
  "attention in f16 arithmetic keeps the bound when causal, for layouts that do not divide the head",
  async (gpu) => {
    for (
      const [dim, [threadsX, threadsY, rows, keys, depth]] of [
        [12, [2, 16, 3, 1, 3]],
        [24, [8, 4, 1, 1, 6]],
      ] as const
    ) {
      const form = { path: "workgroup", threadsX, threadsY, rows, keys, depth } as const;
      for (const causal of [false, true]) await check(gpu, { batch: 1, heads: 3, t: 45, s: 43, dim, causal }, { form });
    }
  },
  inF16Arithmetic,
  lacking,
);

gpuTest(
  "sums in f16 end after 16 keys",
  async (gpu) => {
    // In f16, 2048 + 1 is 2048. So of equally weighted values, those that share a sum with the 2048
    // are lost, and no others.
    const s = 64, dim = 16;
    const form = { path: "workgroup", threadsX: 4, threadsY: 4, rows: 1, keys: 2, depth: 4 } as const;
    using q = Tensor.from(gpu, new Float32Array(dim), [1, 1, dim]);
    using v = Tensor.from(gpu, new Float32Array(s * dim).fill(1).fill(2048, 0, dim), [1, s, dim]);
    using y = attention(q, v, v, { heads: 1, form, allowF16Operands: true });
    for (const mean of await y.data()) assert(mean * s >= 2048 + s - 16, `${mean * s} of ${2048 + s - 1}`);
  },
  inF16Arithmetic,
  lacking,
);

gpuTest(
  "only attention whose operands may be rounded is computed in f16, and only in f16 arithmetic",
  async (gpu) => {
    const c = { batch: 1, heads: 2, t: 9, s: 21, dim: 16 }, path = "workgroup";
    using rounded = attend(gpu, c, { path });
    using exact = attend(gpu, c, { path, allowF16Operands: false });
    using other = gpu.context.describedAs({ arithmetic: "f32" }, () => attend(gpu, c, { path }));
    assertNotEquals(await rounded.data(), await exact.data());
    assertEquals(await other.data(), await exact.data());
  },
  inF16Arithmetic,
  lacking,
);

gpuTest(
  "a form tuned in f16 arithmetic is not used in f32 where workgroup memory is too small",
  (gpu) => {
    const sizes = { batch: 2, heads: 8, t: 4096, s: 4096, dim: 40, causal: false, scale: 1 };
    const info = { ...gpu.info, limits: { ...gpu.info.limits, maxComputeWorkgroupStorageSize: 32768 } };
    const form = attentionFormOn(
      { ...info, limits: { ...info.limits, maxComputeInvocationsPerWorkgroup: 1024 } },
      "workgroup",
      sizes,
      { half: true },
    )!;
    assertEquals(form, { path: "workgroup", threadsX: 10, threadsY: 32, rows: 4, keys: 1, depth: 10 });
    const { attention } = policyFor({
      info: { ...info, limits: { ...info.limits, maxComputeInvocationsPerWorkgroup: 1024 } },
      options: { tuning: { [tuningName(info)]: { attention: { 40: form } } } },
    });
    assertEquals(attention.formFor(sizes, { allowF16Operands: true }), form);
    assertNotEquals(attention.formFor(sizes), form);
  },
  inF16Arithmetic,
  lacking,
);
