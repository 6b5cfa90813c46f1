import { assertEquals, assertThrows } from "@std/assert";
import { ShapeError } from "../../../engine/errors.ts";
import { Tensor } from "../../../engine/tensor.ts";
import { cholesky, type CholeskyFactor, firstBadPivot } from "../../../kernels/linalg/cholesky.ts";
import type { Real } from "../../../kernels/linalg/real_product.ts";
import { triangularSolve } from "../../../kernels/linalg/triangular_solve.ts";
import { assertClose, gpuTest } from "../../gpu.ts";
import { positiveDefinite, product, random64, transposed } from "../../../bench/oracles/matrices.ts";

const unit = { f32: 2 ** -24, f64: 2 ** -53 };
const types: Real[] = ["f32", "f64"];

/** L [n, n] without the padding, zero above the diagonal. */
async function lowerTriangle({ lower, size }: CholeskyFactor): Promise<Float64Array> {
  const padded = lower.shape[1], elements = await lower.float64();
  return Float64Array.from({ length: size * size }, (_, at) => {
    const row = Math.floor(at / size), column = at % size;
    return column <= row ? elements[row * padded + column] : 0;
  });
}

for (const real of types) {
  gpuTest(`cholesky() reproduces A from L·Lᵀ for n = 1, 15, 16, 17, 31, 32, 33, 67, 308 in ${real}`, async (gpu) => {
    if (real === "f64" && !gpu.info.f64) return;
    for (const n of [1, 15, 16, 17, 31, 32, 33, 67, 308]) {
      const matrix = positiveDefinite(n, n);
      using a = Tensor.from(gpu, matrix, [n, n], real);
      using factor = cholesky(a);
      const l = await lowerTriangle(factor);
      assertEquals(firstBadPivot((await factor.pivots.float64()).subarray(0, n)), undefined);
      // Backward error of Cholesky: at most (n + 1) · 2⁻ᵖ relative to A. The rounding errors have
      // random signs, so their sum grows with √n.
      assertClose(product(l, transposed(l, n, n), n, n, n), matrix, unit[real] * (4 + 2 * Math.sqrt(n)), `n = ${n}`);
    }
  });

  gpuTest(`triangularSolve() inverts L and Lᵀ for 1, 3, 48 and 130 right-hand sides in ${real}`, async (gpu) => {
    if (real === "f64" && !gpu.info.f64) return;
    for (const [n, columns] of [[1, 1], [5, 3], [32, 48], [33, 130], [100, 48]]) {
      const b = random64(n * columns, columns);
      using a = Tensor.from(gpu, positiveDefinite(n, n), [n, n], real);
      using factor = cholesky(a);
      using right = Tensor.from(gpu, b, [n, columns], real);
      const l = await lowerTriangle(factor);
      for (const transpose of [false, true]) {
        using x = triangularSolve(factor, right, { transpose });
        const back = product(transpose ? transposed(l, n, n) : l, await x.float64(), n, n, columns);
        // The condition number of L is below 3: A = M·Mᵀ + n I, and ‖M·Mᵀ‖ is below about 4n/3.
        assertClose(back, b, unit[real] * (8 + 4 * Math.sqrt(n)), `n = ${n}, transpose ${transpose}`);
      }
    }
  });

  gpuTest(`firstBadPivot() returns the first column where A is not positive definite, in ${real}`, async (gpu) => {
    if (real === "f64" && !gpu.info.f64) return;
    const n = 40, matrix = positiveDefinite(n, 9);
    matrix[37 * n + 37] = -3;
    using a = Tensor.from(gpu, matrix, [n, n], real);
    using factor = cholesky(a);
    const bad = firstBadPivot((await factor.pivots.float64()).subarray(0, n));
    assertEquals(bad?.index, 37);
    assertEquals(bad!.value < -3, true, `${bad!.value}`);
    assertEquals((await lowerTriangle(factor)).every(Number.isFinite), true, "what follows a bad pivot stays finite");
  });
}

gpuTest("cholesky() and triangularSolve() reject mismatched shapes", (gpu) => {
  using oblong = Tensor.empty(gpu, [3, 4]);
  assertThrows(() => cholesky(oblong), ShapeError, "3 ≠ 4");
  using square = Tensor.from(gpu, new Float32Array([2]), [1, 1]);
  using factor = cholesky(square);
  assertThrows(() => triangularSolve(factor, oblong), ShapeError, "3 ≠ 1");
});
