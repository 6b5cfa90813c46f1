import { assert, assertEquals, assertThrows } from "@std/assert";
import { type AttentionCase, type AttentionProblem, attentionProblem } from "../../../bench/oracles/attention.ts";
import { DTypeError, ShapeError } from "../../../engine/errors.ts";
import type { Gpu } from "../../../engine/gpu.ts";
import { Tensor } from "../../../engine/tensor.ts";
import { attentionCandidates } from "../../../bench/measure/tune_search.ts";
import { attention } from "../../../kernels/attention/attention.ts";
import { type AttentionPath, unsupportedAttentionReason } from "../../../kernels/attention/form.ts";
import type { AttentionSizes } from "../../../kernels/attention/sizes.ts";
import { stagedAttention } from "../../../kernels/attention/staged.ts";
import { subgroupAttention } from "../../../kernels/attention/subgroup.ts";
import { workgroupAttention } from "../../../kernels/attention/workgroup.ts";
import { assertClose, f32Tolerance, gpuTest, randomArray } from "../../gpu.ts";
import { f16Rounding } from "../oracles.ts";

type Run = (tensors: { q: Tensor; k: Tensor; v: Tensor }, sizes: AttentionSizes) => Tensor;

async function check(gpu: Gpu, { sizes, expected, tolerance, ...data }: AttentionProblem, run: Run, what: string) {
  const { batch, heads, t, s, dim } = sizes;
  using q = Tensor.from(gpu, data.q, [batch, t, heads * dim]);
  using k = Tensor.from(gpu, data.k, [batch, s, heads * dim]);
  using v = Tensor.from(gpu, data.v, [batch, s, heads * dim]);
  using y = run({ q, k, v }, sizes);
  assertEquals(y.shape, q.shape);
  assertClose(await y.data(), expected, tolerance, `${what} ${JSON.stringify(sizes)}`);
}

const by = (path?: AttentionPath): Run => ({ q, k, v }, { heads, causal, scale }) =>
  attention(q, k, v, { heads, causal, scale, path });

/** Into an output of its own, by one of the functions behind `attention`. */
const into = (run: (tensors: { q: Tensor; k: Tensor; v: Tensor; y: Tensor }, sizes: AttentionSizes) => void): Run => {
  return (tensors, sizes) => {
    const y = Tensor.empty(tensors.q.gpu, tensors.q.shape);
    run({ ...tensors, y }, sizes);
    return y;
  };
};

/** The path, where the device has it. */
const available = (gpu: Gpu, path: AttentionPath) => path !== "subgroup" || gpu.info.subgroupSize > 0;

const vec4Cases: AttentionCase[] = [
  { batch: 1, heads: 1, t: 1, s: 1, dim: 4 },
  { batch: 2, heads: 3, t: 35, s: 1, dim: 4 },
  { batch: 1, heads: 2, t: 1, s: 101, dim: 16 },
  { batch: 3, heads: 2, t: 37, s: 5, dim: 8 },
  { batch: 1, heads: 1, t: 257, s: 77, dim: 16 },
  { batch: 2, heads: 2, t: 67, s: 77, dim: 40 },
  { batch: 1, heads: 2, t: 71, s: 131, dim: 64 },
  { batch: 1, heads: 2, t: 64, s: 64, dim: 64 },
  { batch: 1, heads: 2, t: 70, s: 37, dim: 80 },
  { batch: 3, heads: 1, t: 41, s: 21, dim: 160 },
];
const others: AttentionCase[] = [
  { batch: 1, heads: 1, t: 1, s: 1, dim: 1 },
  { batch: 3, heads: 2, t: 13, s: 17, dim: 1 },
  { batch: 2, heads: 3, t: 19, s: 77, dim: 5 },
  { batch: 1, heads: 1, t: 33, s: 36, dim: 512 },
];
const describe = (cases: AttentionCase[]) =>
  cases.map(({ batch, heads, t, s, dim }) => [batch, heads, t, s, dim].join("·"));

gpuTest("attention() of no images is empty, in every form", async (gpu) => {
  using q = Tensor.empty(gpu, [0, 3, 8]);
  for (const path of (["staged", "workgroup", "subgroup"] as const).filter((path) => available(gpu, path))) {
    using y = attention(q, q, q, { heads: 2, path });
    assertEquals((await y.data()).length, 0);
  }
});

gpuTest("attention() takes f16 keys of any width", async (gpu) => {
  // 9 keys would be padded to 16, by copies of rows of 7 · 3 elements
  const q = randomArray(4 * 3, 1), k = randomArray(9 * 3, 2);
  using queries = Tensor.from(gpu, q, [1, 4, 3]);
  using keys = Tensor.from(gpu, k, [1, 9, 3], "f16");
  using rounded = Tensor.from(gpu, await keys.data(), [1, 9, 3]);
  using y = attention(queries, keys, keys, { heads: 1 });
  using expected = attention(queries, rounded, rounded, { heads: 1 });
  assertClose(await y.data(), await expected.data(), f32Tolerance(9));
});

gpuTest("attention() equals its float64 definition in every form that the tuner measures", async (gpu) => {
  const sizes = { batch: 1, heads: 2, t: 45, s: 37, dim: 40 };
  const asked = attentionProblem(sizes);
  const forms = attentionCandidates(gpu, sizes.dim);
  assert(forms.length > 3, `${forms.length} forms`);
  for (const form of forms) {
    const run: Run = ({ q, k, v }, { heads, scale }) => attention(q, k, v, { heads, scale, form });
    await check(gpu, asked, run, JSON.stringify(form));
  }
});

for (const path of ["subgroup", "workgroup", "staged"] as const) {
  const cases = path === "staged" ? [...vec4Cases, ...others] : vec4Cases;
  gpuTest(
    `attention() on the ${path} path equals its float64 definition for batch·heads·T·S·D = ${
      describe(cases).join(", ")
    }`,
    async (gpu) => {
      if (!available(gpu, path)) return;
      for (const c of cases) await check(gpu, attentionProblem(c), by(path), path);
    },
  );

  gpuTest(`attention() on the ${path} path masks later keys when causal, also where T and S differ`, async (gpu) => {
    if (!available(gpu, path)) return;
    for (const [t, s] of [[77, 77], [64, 64], [9, 43], [43, 9]]) {
      await check(gpu, attentionProblem({ batch: 2, heads: 2, t, s, dim: 16, causal: true }), by(path), path);
    }
  });

  gpuTest(
    `attention() on the ${path} path stays finite for scores in the thousands, with any scale`,
    async (gpu) => {
      if (!available(gpu, path)) return;
      const c = { batch: 1, heads: 2, t: 19, s: 43, dim: 16 };
      for (const causal of [false, true]) {
        await check(gpu, attentionProblem({ ...c, causal, scale: 1 }, { loud: 1000 }), by(path), path);
        await check(gpu, attentionProblem({ ...c, causal, scale: 0.3 }), by(path), path);
      }
    },
  );
}

gpuTest(
  "subgroupAttention() equals its definition for 1 to 5 queries per lane, and any keys and unrollK",
  async (gpu) => {
    const lanes = gpu.info.subgroupSize;
    if (lanes === 0) return;
    const whole = attentionProblem({ batch: 1, heads: 2, t: 75, s: 43, dim: 8 });
    for (
      const [queries, keys, unrollK] of [[1, lanes, 2], [2, 4, 4], [3, 4, 1], [4, 4, 2], [2, 2, 2], [3, 2, 2], [
        5,
        2,
        1,
      ]]
    ) {
      const shape = { lanes, queries, keys, unrollK };
      await check(
        gpu,
        whole,
        into((tensors, sizes) => subgroupAttention(tensors, sizes, shape)),
        JSON.stringify(shape),
      );
    }
  },
);

gpuTest("workgroupAttention() equals its definition for every layout that a device may choose", async (gpu) => {
  // [threadsX, threadsY, rows, keys, depth]: the policy's layouts, and such that neither divide the
  // head nor hold it at once
  const layouts: Record<number, number[][]> = {
    12: [[8, 4, 1, 1, 3], [2, 32, 6, 1, 3]],
    40: [[10, 32, 4, 1, 5], [4, 16, 2, 3, 2]],
    64: [[8, 16, 4, 2, 4]],
    80: [[8, 16, 4, 2, 4]],
  };
  for (const [dim, shapes] of Object.entries(layouts)) {
    for (const [threadsX, threadsY, rows, keys, depth] of shapes) {
      const shape = { threadsX, threadsY, rows, keys, depth };
      // SwiftShader under Dawn has 256 invocations a workgroup
      if (unsupportedAttentionReason(gpu.info, Number(dim), { path: "workgroup", ...shape })) continue;
      const run = into((tensors, sizes) => workgroupAttention(tensors, sizes, shape));
      for (const s of dim === "12" ? [83] : [83, 4 * keys * threadsX]) { // with a rest, and whole blocks
        const whole = attentionProblem({
          batch: 1,
          heads: 2,
          t: 75,
          s,
          dim: Number(dim),
          causal: dim === "12" && s === 83,
        });
        await check(gpu, whole, run, `${JSON.stringify(shape)}, ${s} keys`);
      }
    }
  }
});

gpuTest("stagedAttention() does not depend on how many scores it holds at a time", async (gpu) => {
  for (const causal of [false, true]) {
    const whole = attentionProblem({ batch: 3, heads: 2, t: 29, s: 24, dim: 20, causal });
    for (const rows of [1, 7, 29, 2 * 29]) { // of both heads; the last is two samples at a time
      const run = into((tensors, sizes) => stagedAttention(tensors, sizes, { scoreBytes: rows * 2 * 24 * 4 }));
      await check(gpu, whole, run, `${rows} rows`);
    }
  }
});

gpuTest("attention() takes at most 64 MiB of memory besides its result, whatever T × S is", async (gpu) => {
  const [t, dim] = [6000, 1]; // whole scores would take 137 MiB
  using q = Tensor.from(gpu, randomArray(t), [1, t, dim]);
  gpu.trim();
  gpu.resetPeak();
  const before = gpu.memory.live;
  using y = attention(q, q, q, { heads: 1, path: "staged" });
  assert(gpu.memory.peak - before - y.bytes <= 1.125 * 2 ** 26, `${gpu.memory.peak - before} bytes`);
  await gpu.finished();
});

for (const path of ["subgroup", "workgroup", "staged"] as const) {
  gpuTest(
    `attention() on the ${path} path accepts f16 queries, keys and values, and keeps the queries' dtype`,
    async (gpu) => {
      if (!available(gpu, path)) return;
      for (const c of [{ batch: 2, heads: 2, t: 67, s: 77, dim: 40 }, { batch: 1, heads: 3, t: 20, s: 5, dim: 12 }]) {
        // Rounded in `problem`, so that the oracle has the kernel's operands.
        const { sizes, expected, tolerance, ...data } = attentionProblem(c, { rounded: true });
        const { batch, heads, t, s, dim } = sizes;
        for (const [queries, others] of [["f16", "f16"], ["f16", "f32"], ["f32", "f16"]] as const) {
          using q = Tensor.from(gpu, data.q, [batch, t, heads * dim], queries);
          using k = Tensor.from(gpu, data.k, [batch, s, heads * dim], others);
          using v = Tensor.from(gpu, data.v, [batch, s, heads * dim], others);
          using y = attention(q, k, v, { heads, path });
          assertEquals(y.dtype, queries);
          const allowed = tolerance + (queries === "f16" ? f16Rounding : 0);
          assertClose(await y.data(), expected, allowed, `${queries}, ${others} ${JSON.stringify(c)}`);
        }
      }
    },
  );
}

gpuTest("attention() rejects f16 queries whose head width is not a multiple of 4", (gpu) => {
  using q = Tensor.empty(gpu, [1, 5, 12], "f16");
  assertThrows(() => gpu.scope(() => attention(q, q, q, { heads: 2 })), DTypeError, "in f16");
});

gpuTest("attention() chooses a supported path by default, also without subgroups", async (gpu) => {
  assertEquals(gpu.info.subgroupSize, 0);
  for (const dim of [5, 40, 64, 160, 164]) {
    await check(gpu, attentionProblem({ batch: 1, heads: 2, t: 20, s: 77, dim }), by(), "no subgroups");
  }
}, { withoutFeatures: ["subgroups"] });

gpuTest("attention() rejects mismatched shapes with requirement and value", (gpu) => {
  const make = (...shape: number[]) => Tensor.empty(gpu, shape);
  using q = make(2, 5, 12);
  using k = make(2, 7, 12);
  using otherBatch = make(1, 7, 12);
  using wide = make(2, 7, 16);
  using none = make(2, 0, 12);
  using flat = make(7, 12);
  const message = assertThrows(() => attention(q, wide, wide, { heads: 2 }), ShapeError).message;
  assert(message.includes("[2, 5, 12]") && message.endsWith("12 ≠ 16"), message);
  assertThrows(() => attention(q, k, wide, { heads: 2 }), ShapeError, "same shape");
  assertThrows(() => attention(q, otherBatch, otherBatch, { heads: 2 }), ShapeError, "2 ≠ 1");
  assertThrows(() => attention(q, none, none, { heads: 2 }), ShapeError, "0 keys of 12");
  assertThrows(() => attention(flat, k, k, { heads: 2 }), ShapeError, "three axes: 2");
  assertThrows(() => attention(q, k, k, { heads: 5 }), ShapeError, "12 / 5");
  assertThrows(() => attention(q, k, k, { heads: 2, path: "workgroup" }), ShapeError, "heads of width 6");
});
