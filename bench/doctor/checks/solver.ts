import type { Gpu } from "../../../engine/gpu.ts";
import { Tensor } from "../../../engine/tensor.ts";
import { addScaled } from "../../../kernels/linalg/add_scaled.ts";
import { cholesky } from "../../../kernels/linalg/cholesky.ts";
import { copyMatrix } from "../../../kernels/linalg/copy_matrix.ts";
import { exactProduct } from "../../../kernels/linalg/exact_product.ts";
import { gram } from "../../../kernels/linalg/gram.ts";
import { addProduct, type Real } from "../../../kernels/linalg/real_product.ts";
import { slices } from "../../../kernels/linalg/slices.ts";
import { squaredNorms } from "../../../kernels/linalg/squared_norms.ts";
import { triangularSolve } from "../../../kernels/linalg/triangular_solve.ts";
import { positiveDefinite, product, random64, solvePositive, transposed } from "../../oracles/matrices.ts";
import { f32Tolerance, randomArray, unitRoundoff } from "../../oracles/numbers.ts";
import type { Check, Outcome } from "../check.ts";

const lower = (values: ArrayLike<number>, side: number) =>
  Float64Array.from(values, (value, i) => i % side <= Math.floor(i / side) ? value : 0);

/** Checks of the solver's own kernels, in one precision. */
function realChecks(real: Real): Check[] {
  const unit = unitRoundoff[real];
  const check = (operation: string, shape: string, tolerance: number, run: (gpu: Gpu) => Outcome): Check => ({
    operation,
    shape: `${shape}, ${real}`,
    tolerance,
    unsupportedReason: ({ info }) => real === "f64" && !info.f64 ? "the device has no f64" : undefined,
    run,
  });
  return [
    check("addProduct", "33×100×60 subtracted, Bᵀ", unit * (4 * Math.sqrt(100) + 8), (gpu) => {
      const [m, k, n] = [33, 100, 60];
      const a = random64(m * k, 1), b = random64(k * n, 2), y = random64(m * n, 3);
      const tensor = Tensor.from(gpu, y, [m, n], real);
      const operands = [
        { matrix: Tensor.from(gpu, a, [m, k], real) },
        { matrix: Tensor.from(gpu, transposed(b, k, n), [n, k], real) },
      ] as const;
      addProduct({ matrix: tensor }, operands, { transposeB: true, mode: "subtract" });
      return { tensor, expected: product(a, b, m, k, n).map((sum, i) => y[i] - sum) };
    }),
    check("gram", "37×5", unit * (8 + 4 * Math.sqrt(5)), (gpu) => {
      const [n, d] = [37, 5], c = random64(n * d, 1), diagonal = random64(n, 2);
      const tensor = gram(Tensor.from(gpu, c, [n, d], real), { diagonal: Tensor.from(gpu, diagonal, [n], real) });
      const expected = product(c, transposed(c, n, d), n, d, n);
      for (let i = 0; i < n; i++) expected[i * (n + 1)] += diagonal[i];
      return { tensor, expected: lower(expected, n), read: (elements) => lower(elements, n) };
    }),
    // Backward error of Cholesky: rounding errors of random signs grow with √n. WGSL allows sqrt
    // and division 4.5 and 2.5 ulp in f32, and a pivot's root counts twice.
    check("cholesky", "L·Lᵀ of 67", unit * (4 + 2 * Math.sqrt(67) + 2 * (2 * 4.5 + 2.5)), (gpu) => {
      const n = 67, matrix = positiveDefinite(n, 1);
      const { lower, inverses, pivots, size } = cholesky(Tensor.from(gpu, matrix, [n, n], real));
      const padded = lower.shape[1];
      void [inverses, pivots, size];
      const read = (elements: Float64Array) => {
        const l = Float64Array.from({ length: n * n }, (_, i) => {
          const row = Math.floor(i / n), column = i % n;
          return column <= row ? elements[row * padded + column] : 0;
        });
        return product(l, transposed(l, n, n), n, n, n);
      };
      return { tensor: lower, expected: matrix, read };
    }),
    // The condition number of A = M·Mᵀ + n I is below 10 (see positiveDefinite).
    check(
      "cholesky + triangularSolve",
      "33 with 50 columns",
      10 * unit * (8 + 4 * Math.sqrt(33) + 4 * (4.5 + 2.5)),
      (gpu) => {
        const [n, columns] = [33, 50], matrix = positiveDefinite(n, 2), b = random64(n * columns, 3);
        const factor = cholesky(Tensor.from(gpu, matrix, [n, n], real));
        const forward = triangularSolve(factor, Tensor.from(gpu, b, [n, columns], real));
        const tensor = triangularSolve(factor, forward, { transpose: true });
        return { tensor, expected: solvePositive(matrix, b, n, columns) };
      },
    ),
    check("copyMatrix", "3×4 of 5×7 into 4×6", real === "f32" ? 0 : 2 ** -53, (gpu) => {
      const x = Float64Array.from(randomArray(35, 2));
      const tensor = copyMatrix(
        { matrix: Tensor.from(gpu, x, [5, 7], real), row: 1, rows: 3, column: 2, columns: 4 },
        { shape: [4, 6], padDiagonal: 9 },
      );
      const expected = Array.from({ length: 24 }, (_, index) => {
        const [i, j] = [Math.floor(index / 6), index % 6];
        return i < 3 && j < 4 ? x[(i + 1) * 7 + j + 2] : i === j ? 9 : 0;
      });
      return { tensor, expected };
    }),
  ];
}

/** The edit's solver: f32, f64 where the device has it, and the exact products that replace f64. */
export const solverChecks: readonly Check[] = [
  ...realChecks("f32"),
  ...realChecks("f64"),
  {
    operation: "slices",
    shape: "7×12, 4 slices",
    // four slices of 9 bits hold all 24 bits of elements near the largest
    tolerance: 2 ** -30,
    run: (gpu) => {
      const [rows, columns, count] = [7, 12, 4], x = randomArray(rows * columns, 5);
      const { digits, scales } = slices(Tensor.from(gpu, x, [rows, columns]), { along: "rows", count });
      void scales;
      const largest = Array.from(
        { length: rows },
        (_, i) => Math.max(...x.subarray(i * columns, (i + 1) * columns).map(Math.abs)),
      );
      // Scales are powers of two above the largest element: found from the sums themselves.
      const read = (elements: Float64Array) =>
        Float64Array.from(x, (value, at) => {
          let sum = 0;
          for (let s = count - 1; s >= 0; s--) sum = (sum + elements[s * x.length + at]) / 512;
          const power = sum === 0 ? 1 : 2 ** Math.round(Math.log2(value / sum));
          return power >= largest[Math.floor(at / columns)] / 2 ? sum * power : NaN;
        });
      return { tensor: digits, expected: x, read };
    },
  },
  {
    operation: "exactProduct",
    shape: "33×300×36 with cancellation",
    // Products have 48 bits and 20 cancel, so the float64 definition keeps 33.
    tolerance: 3 * 2 ** -24 + 2 ** -35 * 1e6,
    run: (gpu) => {
      const [m, k, n] = [33, 300, 36], a = randomArray(m * k, 1), b = randomArray(k * n, 2);
      for (let i = 0; i < m; i++) {
        for (let q = k / 2; q < k; q++) a[i * k + q] = -a[i * k + q - k / 2];
      }
      for (let at = k / 2 * n; at < k * n; at++) b[at] = Math.fround(b[at - k / 2 * n] * (1 + 1e-6));
      const left = slices(Tensor.from(gpu, a, [m, k]), { along: "rows", count: 4 });
      const right = slices(Tensor.from(gpu, b, [k, n]), { along: "columns", count: 4 });
      return { tensor: exactProduct(left, right), expected: product(a, b, m, k, n) };
    },
  },
  {
    operation: "addScaled",
    shape: "67",
    tolerance: 2 ** -23,
    run: (gpu) => {
      const y = randomArray(67, 1), x = randomArray(67, 2), tensor = Tensor.from(gpu, y, [67]);
      addScaled(tensor, Tensor.from(gpu, x, [67]), -0.5);
      return { tensor, expected: Float64Array.from(y, (value, i) => value - 0.5 * x[i]) };
    },
  },
  {
    operation: "squaredNorms",
    shape: "5×33",
    tolerance: f32Tolerance(33),
    run: (gpu) => {
      const x = randomArray(5 * 33);
      const expected = [0, 1, 2, 3, 4].map((row) =>
        x.subarray(row * 33, (row + 1) * 33).reduce((sum, value) => sum + value * value, 0)
      );
      return { tensor: squaredNorms(Tensor.from(gpu, x, [5, 33])), expected };
    },
  },
];
