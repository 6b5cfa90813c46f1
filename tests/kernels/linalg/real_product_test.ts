import { assertThrows } from "@std/assert";
import { ShapeError } from "../../../engine/errors.ts";
import type { GpuOptions } from "../../../engine/gpu.ts";
import { Tensor } from "../../../engine/tensor.ts";
import { addProduct, type Real } from "../../../kernels/linalg/real_product.ts";
import { assertClose, gpuTest } from "../../gpu.ts";
import { withBindingLimit, withGpuPolicy } from "../oracles.ts";
import { product, random64, transposed } from "../../../bench/oracles/matrices.ts";

const unit = { f32: 2 ** -24, f64: 2 ** -53 };
const devices: [string, GpuOptions][] = [["", {}], [" without subgroups", { withoutFeatures: ["subgroups"] }]];

for (const [where, options] of devices) {
  gpuTest(`addProduct() equals its float64 definition, plain and transposed, for uneven sizes${where}`, async (gpu) => {
    const reals: Real[] = gpu.info.f64 ? ["f32", "f64"] : ["f32"];
    for (const real of reals) {
      for (const [m, n, k] of [[1, 4, 4], [4, 8, 16], [31, 36, 20], [33, 60, 100], [64, 132, 36]]) {
        const a = random64(m * k, m), b = random64(k * n, n), y = random64(m * n, k);
        const ab = product(a, b, m, k, n);
        // Error of a sum of k products, each rounded; the inputs are rounded to the dtype first.
        const tolerance = unit[real] * (4 * Math.sqrt(k) + 8);
        for (const mode of ["set", "add", "subtract"] as const) {
          const expected = ab.map((value, i) => mode === "set" ? value : mode === "add" ? y[i] + value : y[i] - value);
          for (const transposeB of [false, true]) {
            using left = Tensor.from(gpu, a, [m, k], real);
            using right = Tensor.from(gpu, transposeB ? transposed(b, k, n) : b, transposeB ? [n, k] : [k, n], real);
            using result = Tensor.from(gpu, y, [m, n], real);
            addProduct({ matrix: result }, [{ matrix: left }, { matrix: right }], { transposeB, mode });
            assertClose(await result.float64(), expected, tolerance, `${real} ${m}×${n}×${k} ${mode} ${transposeB}`);
          }
          if (m % 4 !== 0) continue;
          using left = Tensor.from(gpu, transposed(a, m, k), [k, m], real);
          using right = Tensor.from(gpu, b, [k, n], real);
          using result = Tensor.from(gpu, y, [m, n], real);
          addProduct({ matrix: result }, [{ matrix: left }, { matrix: right }], { transposeA: true, mode });
          assertClose(await result.float64(), expected, tolerance, `${real} ${m}×${n}×${k} ${mode} Aᵀ`);
        }
      }
    }
  }, options);

  gpuTest(`addProduct() writes only its block, and with lowerOnly the whole lower triangle${where}`, async (gpu) => {
    const whole = random64(40 * 40, 3), size = 40;
    using a = Tensor.from(gpu, whole, [size, size], "f32");
    using y = Tensor.from(gpu, new Float32Array(size * size).fill(5), [size, size]);
    addProduct({ matrix: y, row: 3, rows: 6, column: 8, columns: 12 }, [
      { matrix: a, row: 1, rows: 6, column: 4, columns: 20 },
      { matrix: a, row: 20, rows: 20, column: 16, columns: 12 },
    ]);
    const cut = (row: number, rows: number, column: number, columns: number) =>
      Float64Array.from(
        { length: rows * columns },
        (_, i) => whole[(row + Math.floor(i / columns)) * size + column + i % columns],
      );
    const ab = product(cut(1, 6, 4, 20), cut(20, 20, 16, 12), 6, 20, 12);
    const expected = new Float64Array(size * size).fill(5);
    for (let i = 0; i < 6; i++) for (let j = 0; j < 12; j++) expected[(3 + i) * size + 8 + j] = ab[i * 12 + j];
    assertClose(await y.float64(), expected, unit.f32 * 32);

    using gram = Tensor.empty(gpu, [size, size]);
    addProduct({ matrix: gram }, [{ matrix: a }, { matrix: a }], { transposeB: true, lowerOnly: true });
    const lower = (values: Float64Array) => values.map((value, i) => i % size <= Math.floor(i / size) ? value : 0);
    const full = product(whole, transposed(whole, size, size), size, size, size);
    assertClose(lower(await gram.float64()), lower(full), unit.f32 * 40);
  }, options);
}

gpuTest("addProduct() on the unrolled tiles of GPUs equals its float64 definition", async (gpu) => {
  for (const [m, n, k] of [[36, 40, 32], [260, 256, 20]]) {
    const a = random64(m * k, 1), b = random64(k * n, 2), expected = product(a, b, m, k, n);
    for (const [transposeA, transposeB] of [[false, false], [false, true], [true, false]]) {
      using left = Tensor.from(gpu, transposeA ? transposed(a, m, k) : a, transposeA ? [k, m] : [m, k], "f32");
      using right = Tensor.from(gpu, transposeB ? transposed(b, k, n) : b, transposeB ? [n, k] : [k, n], "f32");
      using y = Tensor.empty(gpu, [m, n]);
      withGpuPolicy(
        gpu,
        () => addProduct({ matrix: y }, [{ matrix: left }, { matrix: right }], { transposeA, transposeB }),
      );
      assertClose(
        await y.float64(),
        expected,
        unit.f32 * (4 * Math.sqrt(k) + 8),
        `${m}×${n}×${k} ${transposeA} ${transposeB}`,
      );
    }
  }
});

gpuTest("addProduct() sums Aᵀ·B over ranges of rows where the device cannot bind all of them", async (gpu) => {
  const [rows, width, depth, m, n] = [150, 24, 140, 12, 8];
  const a = random64(rows * width, 1), b = random64(rows * width, 2), y = random64(m * n, 3);
  const part = (x: Float64Array, row: number, column: number, columns: number) =>
    Float64Array.from(
      { length: depth * columns },
      (_, i) => x[(row + Math.floor(i / columns)) * width + column + i % columns],
    );
  const ab = product(transposed(part(a, 7, 4, m), depth, m), part(b, 9, 16, n), m, depth, n);
  for (const real of gpu.info.f64 ? ["f32", "f64"] as const : ["f32"] as const) {
    using left = Tensor.from(gpu, a, [rows, width], real);
    using right = Tensor.from(gpu, b, [rows, width], real);
    for (const limit of [4096, 2048, undefined]) {
      for (const mode of ["set", "add", "subtract"] as const) {
        using result = Tensor.from(gpu, y, [m, n], real);
        withBindingLimit(gpu, limit, () =>
          addProduct({ matrix: result }, [
            { matrix: left, row: 7, rows: depth, column: 4, columns: m },
            { matrix: right, row: 9, rows: depth, column: 16, columns: n },
          ], { transposeA: true, mode }));
        const expected = ab.map((value, i) => mode === "set" ? value : mode === "add" ? y[i] + value : y[i] - value);
        assertClose(
          await result.float64(),
          expected,
          unit[real] * (4 * Math.sqrt(depth) + 8),
          `${real} ${mode} ${limit}`,
        );
      }
    }
    const untransposed = () =>
      addProduct({ matrix: right, rows: 4, columns: 4 }, [
        { matrix: left, rows: 4, columns: 4 },
        { matrix: left, rows: 4, columns: 4 },
      ]);
    withBindingLimit(gpu, 4096, () => assertThrows(untransposed, ShapeError, "binds 4096 bytes at most"));
  }
});

gpuTest("addProduct() rejects mismatched blocks with their sizes", (gpu) => {
  using a = Tensor.empty(gpu, [8, 8]);
  using b = Tensor.empty(gpu, [12, 8]);
  using y = Tensor.empty(gpu, [8, 8]);
  assertThrows(() => addProduct({ matrix: y }, [{ matrix: a }, { matrix: b }]), ShapeError, "8 × 8 and 12 × 8");
  assertThrows(() => addProduct({ matrix: y, column: 2 }, [{ matrix: a }, { matrix: a }]), ShapeError, "column 2");
  assertThrows(() => addProduct({ matrix: y, rows: 9 }, [{ matrix: a }, { matrix: a }]), ShapeError, "9 × 8");
});
