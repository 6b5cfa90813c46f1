/** Misuse of public operations is refused by a typed error at once, not at the next wait. */
import { assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { Gpu } from "../../engine/gpu.ts";
import { Tensor } from "../../engine/tensor.ts";
import type { AttentionForm } from "../../kernels/attention/form.ts";
import {
  activate,
  attention,
  clamp,
  concat,
  conv2d,
  groupNorm,
  type GroupNormOptions,
  layerNorm,
  matmul,
  packConvWeight,
  type TileShape,
} from "../../kernels/mod.ts";
import { gpuTest } from "../gpu.ts";

gpuTest("operations refuse tiles, forms and names that are none, and say what they must be", (gpu) => {
  using a = Tensor.empty(gpu, [8, 8]);
  using q = Tensor.empty(gpu, [1, 4, 8]);
  using x = Tensor.empty(gpu, [1, 4, 8, 8]);
  using rows = Tensor.empty(gpu, [2, 4]);
  using four = Tensor.empty(gpu, [4]);
  using kernel = Tensor.empty(gpu, [4, 4, 3, 3]);
  const { tensor, ...sizes } = packConvWeight(kernel);
  using packed = tensor;
  const weight = { ...sizes, tensor: packed };
  const tile = (fields: object) => ({ strategy: "workgroup", lanes: 64, threadsX: 8, rows: 4, columns: 1, ...fields });
  const product = (fields: object) => () => void matmul(a, a, { tile: tile(fields) as TileShape });
  const attend = (form: object) => () => void attention(q, q, q, { heads: 2, form: form as AttentionForm });
  const biased = (first: number) => () => void conv2d(x, weight, { channelBias: { tensor: a, first } });
  const normalized = (groups: number) => () => void groupNorm(x, { weight: four, bias: four, groups, epsilon: 1e-5 });
  for (
    const [misuse, name, reason] of [
      [
        product({ strategy: "warp" }),
        "GpuError",
        'the strategy must be workgroup, subgroup, stationary, matrix, half: "warp"',
      ],
      [
        product({ acceses: 2 }),
        "GpuError",
        'a workgroup tile has the fields strategy, lanes, threadsX, rows, columns, not "acceses"',
      ],
      [product({ depth: 64 }), "GpuError", 'not "depth"'],
      [product({ lanes: 0 }), "GpuError", "lanes must be a whole number from 1 to 1024: 0"],
      [product({ rows: NaN }), "GpuError", "rows must be a whole number from 1 to 1024: NaN"],
      [product({ rows: 64, columns: 64 }), "GpuError", "rows · columns must be at most 256"],
      [() => void matmul(a, a, { splits: -1 }), "ShapeError", "splits must be a whole number of at least 1: -1"],
      [() => void matmul(a, a, { splits: NaN }), "ShapeError", "splits must be a whole number of at least 1: NaN"],
      [() => void conv2d(x, weight, { tile: tile({ threadsX: 7 }) as TileShape }), "GpuError", "multiple of threadsX"],
      [() => void conv2d(x, weight, { path: "4x4" as "3x3" }), "ShapeError", "the path must be general, 3x3,"],
      [
        () => void conv2d(x, weight, { upsample: [10.5, 12] }),
        "ShapeError",
        "whole numbers of at least 0 pixels: 10.5 × 12",
      ],
      [() => void conv2d(x, weight, { upsample: [-8, 8], padding: 10 }), "ShapeError", "of at least 0 pixels: -8 × 8"],
      [biased(-1), "ShapeError", "the channelBias must begin at a whole number of at least 0: -1"],
      [biased(NaN), "ShapeError", "the channelBias must begin at a whole number of at least 0: NaN"],
      [normalized(0.5), "ShapeError", "the groups must divide the channels: 4 / 0.5"],
      [normalized(-2), "ShapeError", "the groups must divide the channels: 4 / -2"],
      [
        () => void groupNorm(x, { weight: four, bias: four, groups: 2 } as GroupNormOptions),
        "GpuError",
        "as epsilon must be a finite number of at least 0: undefined",
      ],
      ...[-1e-5, NaN, Infinity].flatMap((epsilon) => {
        const norm = { weight: four, bias: four, epsilon }, reason = `finite number of at least 0: ${epsilon}`;
        return [
          [() => void groupNorm(x, { ...norm, groups: 2 }), "GpuError", reason] as const,
          [() => void layerNorm(rows, norm), "GpuError", reason] as const,
        ];
      }),
      ...[NaN, Infinity].map((scale) =>
        [
          () => void attention(q, q, q, { heads: 2, scale }),
          "GpuError",
          `Cannot attend with q [1, 4, 8] as scale must be a finite number: ${scale}`,
        ] as const
      ),
      [() => void clamp(a, 2, 1), "RangeError", "Cannot clamp to 2 … 1 as low must be at most high"],
      [() => void clamp(a, NaN, 1), "RangeError", "as low must be at most high"],
      [() => a.write(new Uint8Array(4), -4), "ShapeError", "at -4 of a tensor"],
      [
        () => void attention(q, q, q, { heads: 2, path: "constructor" as "staged" }),
        "ShapeError",
        'the path must be subgroup, workgroup, matrix, staged: "constructor"',
      ],
      [attend({}), "ShapeError", "the path must be subgroup, workgroup, matrix, staged: undefined"],
      [attend({ path: "__proto__" }), "ShapeError", "the path must be"],
      [attend({ path: "staged", keys: 4 }), "ShapeError", 'the staged form has the fields path, not "keys"'],
      [attend({ path: "workgroup" }), "ShapeError", "threadsX must be a whole number from 1 to 1024: undefined"],
      [() => void activate(a, "swish" as "silu"), "RangeError", 'the activation "swish" as it must be silu, gelu'],
      [() => void activate(a, "constructor" as "silu"), "RangeError", "as it must be silu, gelu"],
      [() => void Tensor.empty(gpu, [4], "f8" as "f16"), "DTypeError", "a dtype must be f32, f16, f64, i32, u32"],
    ] as const
  ) {
    const error = assertThrows(() => gpu.scope(misuse), Error);
    assertEquals(error.name, name);
    assertStringIncludes(error.message, reason);
  }
});

Deno.test("operations refuse tensors of another device at once, and what was recorded before still runs", async () => {
  using gpu = await Gpu.request();
  using other = await Gpu.request();
  using a = Tensor.from(gpu, new Float32Array(16).fill(1), [4, 4]);
  using b = Tensor.from(other, new Float32Array(16).fill(1), [4, 4]);
  using bias = Tensor.from(other, new Float32Array(4), [4]);
  using y = matmul(a, a);
  for (
    const misuse of [
      () => void matmul(a, b),
      () => void matmul(a, a, { bias }),
      () => void concat([a, b], 0),
      () => void attention(a.reshape([1, 4, 4]), b.reshape([1, 4, 4]), a.reshape([1, 4, 4]), { heads: 1 }),
    ]
  ) {
    const error = assertThrows(() => gpu.scope(() => other.scope(misuse)), Error);
    assertEquals(error.name, "GpuError");
    assertStringIncludes(error.message, "belongs to another Gpu");
  }
  assertEquals([...await y.data()], Array(16).fill(4));
});

Deno.test("a device is refused with an arithmetic that is none", async () => {
  for (const arithmetic of ["F16", "f64", "__proto__"]) {
    const error = await Gpu.request({ arithmetic: arithmetic as "f16" }).catch((error) => error);
    assertEquals(error.name, "GpuError");
    assertStringIncludes(error.message, 'must be "f32" or "f16"');
  }
});
