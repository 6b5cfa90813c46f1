import { assertThrows } from "@std/assert";
import { ShapeError } from "../../../engine/errors.ts";
import { Tensor } from "../../../engine/tensor.ts";
import { addScaled } from "../../../kernels/linalg/add_scaled.ts";
import { copyMatrix } from "../../../kernels/linalg/copy_matrix.ts";
import { gram } from "../../../kernels/linalg/gram.ts";
import type { Real } from "../../../kernels/linalg/real_product.ts";
import { assertClose, gpuTest, randomArray } from "../../gpu.ts";
import { product, random64, transposed } from "../../../bench/oracles/matrices.ts";

const unit = { f32: 2 ** -24, f64: 2 ** -53 };

gpuTest("gram() equals C·Cᵀ + diag and Cᵀ·B + diag in its lower triangle, for uneven shapes", async (gpu) => {
  const reals: Real[] = gpu.info.f64 ? ["f32", "f64"] : ["f32"];
  for (const real of reals) {
    for (const [n, d] of [[1, 1], [4, 8], [7, 33], [37, 5], [64, 64]]) {
      const c = random64(n * d, n), weights = random64(n, d).map(Math.abs);
      const b = c.map((value, i) => value * weights[Math.floor(i / d)]);
      using rows = Tensor.from(gpu, c, [n, d], real);
      using weighted = Tensor.from(gpu, b, [n, d], real);
      for (const lines of ["rows", "columns"] as const) {
        const side = lines === "rows" ? n : d, diagonal = random64(side, 3);
        using added = Tensor.from(gpu, diagonal, [side], real);
        using y = gram(rows, lines === "rows" ? { diagonal: added } : { of: lines, weighted, diagonal: added });
        const expected = lines === "rows"
          ? product(c, transposed(c, n, d), n, d, n)
          : product(transposed(c, n, d), b, d, n, d);
        for (let i = 0; i < side; i++) expected[i * (side + 1)] += diagonal[i];
        const lower = (values: Float64Array) => values.map((v, i) => i % side <= Math.floor(i / side) ? v : 0);
        const tolerance = unit[real] * (8 + 4 * Math.sqrt(lines === "rows" ? d : n));
        assertClose(lower(await y.float64()), lower(expected), tolerance, `${real} [${n}, ${d}] ${lines}`);
      }
    }
  }
});

gpuTest("copyMatrix() extracts, pads, converts, scales and adds to the diagonal", async (gpu) => {
  const [rows, columns] = [5, 7];
  const numbers = randomArray(rows * columns, 2), scale = randomArray(columns, 3), diagonal = randomArray(rows, 4);
  using x = Tensor.from(gpu, numbers, [rows, columns]);
  using cut = copyMatrix({ matrix: x, row: 1, rows: 3, column: 2, columns: 4 }, { shape: [4, 6], padDiagonal: 9 });
  const at = (i: number, j: number) => numbers[i * columns + j];
  const expected = Array.from({ length: 24 }, (_, index) => {
    const [i, j] = [Math.floor(index / 6), index % 6];
    return i < 3 && j < 4 ? at(i + 1, j + 2) : i === j ? 9 : 0;
  });
  assertClose(await cut.data(), expected, 0);
  using factors = Tensor.from(gpu, scale, [columns]);
  using added = Tensor.from(gpu, diagonal, [rows]);
  using changed = copyMatrix({ matrix: x }, { scaleColumns: factors, addDiagonal: added });
  const wanted = Array.from(numbers, (value, index) => {
    const [i, j] = [Math.floor(index / columns), index % columns];
    return value * scale[j] + (i === j ? diagonal[i] : 0);
  });
  assertClose(await changed.data(), wanted, 2 ** -23);
  if (gpu.info.f64) {
    using wide = Tensor.from(gpu, random64(32, 1), [4, 8]);
    using narrow = copyMatrix({ matrix: wide }, { real: "f32" });
    assertClose(await narrow.data(), Float32Array.from(random64(32, 1)), 0);
  }
  assertThrows(() => copyMatrix({ matrix: x, row: 3, rows: 3 }), ShapeError, "[5, 7]");
});

gpuTest("addScaled() computes y + factor · x in place", async (gpu) => {
  const a = randomArray(67, 1), b = randomArray(67, 2);
  using y = Tensor.from(gpu, a, [67]);
  using x = Tensor.from(gpu, b, [67]);
  addScaled(y, x, -0.5);
  assertClose(await y.data(), a.map((value, i) => value - 0.5 * b[i]), 2 ** -23);
  using short = Tensor.empty(gpu, [66]);
  assertThrows(() => addScaled(y, short, 1), ShapeError, "[66] to [67]");
});
