import { assert } from "@std/assert";
import { symmetricEigen } from "../../../../pipeline/editing/solve/symmetric_eigen.ts";
import { assertClose } from "../../../gpu.ts";
import { product, random64, transposed } from "../../../../bench/oracles/matrices.ts";

Deno.test("symmetricEigen() rebuilds A from orthonormal vectors and sorted values, for n = 1, 2, 3, 17, 60 and degenerate A", () => {
  for (const size of [1, 2, 3, 17, 60]) {
    const m = random64(size * size, size);
    const symmetric = m.map((value, i) => value + m[(i % size) * size + Math.floor(i / size)]);
    const rankTwo = random64(2 * size, 99);
    const degenerate = product(transposed(rankTwo, 2, size), rankTwo, size, 2, size);
    const identity = Float64Array.from({ length: size * size }, (_, i) => i % (size + 1) === 0 ? 1 : 0);
    for (const a of [symmetric, degenerate, identity, new Float64Array(size * size)]) {
      const { values, vectors } = symmetricEigen(a, size);
      for (let i = 1; i < size; i++) assert(values[i - 1] >= values[i]);
      const t = transposed(vectors, size, size);
      assertClose(product(vectors, t, size, size, size), identity, 1e-13, `n = ${size}: orthonormal`);
      const scaled = vectors.map((value, i) => value * values[Math.floor(i / size)]);
      assertClose(product(t, scaled, size, size, size), a, 1e-13 * Math.sqrt(size), `n = ${size}: rebuilt`);
    }
  }
});
