import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { ShapeError } from "../../../engine/errors.ts";
import type { Gpu, GpuOptions } from "../../../engine/gpu.ts";
import { Tensor } from "../../../engine/tensor.ts";
import { ChannelSolver, RefinedChannelSolver } from "../../../pipeline/editing/solve/channel_solver.ts";
import { RefinedTokenSolver } from "../../../pipeline/editing/solve/token_solver.ts";
import { mergeRows } from "../../../pipeline/editing/prompts/edit_rows.ts";
import { withBindingLimit } from "../../kernels/oracles.ts";
import { EditSystem, solveOperator } from "../../../pipeline/editing/solve/edit_system.ts";
import { IllConditionedError, LambdaError } from "../../../pipeline/editing/errors.ts";
import { EditOperator } from "../../../pipeline/editing/operator.ts";
import { EditError } from "../../../pipeline/errors.ts";
import { loadGoldens } from "../../goldens.ts";
import { assertClose, gpuTest, randomArray } from "../../gpu.ts";
import { product, random64, solvePositive, transposed } from "../../../bench/oracles/matrices.ts";

/** Largest relative error of E − I against float64. */
const tolerance = 1e-5;

const devices: [string, GpuOptions][] = [["with f64 where the device has it", {}], ["in f32 alone", {
  withoutFeatures: ["wgpu-shader-f64"],
}]];

/** A matrix less the identity. */
function lessIdentity(e: Float64Array): Float64Array {
  const side = Math.sqrt(e.length);
  return e.map((value, i) => i % (side + 1) === 0 ? value - 1 : value);
}

/** (E − I) by the d × d normal equations, in plain float64. */
function normalEquations(
  c: Float64Array,
  change: Float64Array,
  options: { width: number; lamb: number; weights?: Float64Array },
): Float64Array {
  const { width, lamb, weights } = options;
  const n = c.length / width;
  const ct = transposed(c, n, width).map((value, i) => value * (weights?.[i % n] ?? 1)); // CᵀW
  const h = product(ct, c, width, n, width);
  for (let i = 0; i < width; i++) h[i * (width + 1)] += lamb;
  return transposed(solvePositive(h, product(ct, change, width, n, width), width, width), width, width);
}

/** (E − I) by the n × n equations, in plain float64. */
function tokenEquations(c: Float64Array, change: Float64Array, options: { width: number; lamb: number }): Float64Array {
  const { width, lamb } = options;
  const n = c.length / width;
  const a = product(c, transposed(c, n, width), n, width, n);
  for (let i = 0; i < n; i++) a[i * (n + 1)] += lamb;
  return product(transposed(change, n, width), solvePositive(a, c, n, width), width, n, width);
}

/**
 * Rows in f32 that are correlated as embeddings of prompts are: a common part plus rows with a
 * decaying spectrum.
 */
function correlatedRows(
  n: number,
  width: number,
  options: { decay: number; norm: number; seed: number },
): Float32Array {
  const { decay, norm, seed } = options;
  const mix = random64(n * n, seed).map((value, i) => i % n === 0 ? 6 + value : value * 10 ** (-decay * (i % n) / n));
  const rows = product(mix, random64(n * width, seed + 1), n, n, width);
  const scale = norm / Math.hypot(...rows.subarray(0, width));
  return Float32Array.from(rows, (value) => value * scale);
}

async function solved(
  gpu: Gpu,
  [c, d]: readonly [Float32Array | Float64Array, Float32Array | Float64Array],
  options: { width: number; lamb: number; route?: "tokens" | "channels"; weights?: Float64Array },
) {
  const shape = [c.length / options.width, options.width];
  using source = Tensor.from(gpu, c as Float64Array<ArrayBuffer>, shape);
  using destination = Tensor.from(gpu, d as Float64Array<ArrayBuffer>, shape);
  using operator = await solveOperator(gpu, { source, destination, weights: options.weights }, options);
  return { report: operator.report!, change: lessIdentity(await operator.dense()) };
}

/** An ill-conditioned edit of SD 1.x's width, and its solution in float64, which takes seconds. */
function illConditioned() {
  const [n, width, lamb] = [308, 768, 0.1];
  const c = correlatedRows(n, width, { decay: 3, norm: 28, seed: 11 });
  const c64 = Float64Array.from(c);
  // One part of the change is proportional to the sources in each column. λ hardly reduces it,
  // and a less stable splitting into factors would cancel. The other part is noise.
  const map = random64(width, 5);
  const noise = random64(n * width, 7);
  const d = c.map((value, i) => value * (1 + 0.3 * map[i % width]) + 0.05 * noise[i]);
  const change = Float64Array.from(d, (value, i) => value - c[i]);
  const a = product(c64, transposed(c64, n, width), n, width, n);
  for (let i = 0; i < n; i++) a[i * (n + 1)] += lamb;
  // Rayleigh quotients are lower bounds of the largest eigenvalue and upper bounds of the
  // smallest.
  const rayleigh = (v: Float64Array) => product(v, product(a, v, n, n, 1), 1, n, 1)[0] / product(v, v, 1, n, 1)[0];
  const condition = rayleigh(c64.filter((_, i) => i % width === 0)) /
    rayleigh(solvePositive(a, solvePositive(a, random64(n, 3), n, 1), n, 1));
  return { c, d, width, lamb, condition, expected: normalEquations(c64, change, { width, lamb }) };
}
let edit: ReturnType<typeof illConditioned> | undefined;

for (const [where, options] of devices) {
  for (const name of ["sd1-mini", "sd2-mini"]) {
    gpuTest(`solveOperator() equals ${name}'s float64 operators by both routes, ${where}`, async (gpu) => {
      const { tensors } = await loadGoldens(name);
      for (const index of [0, 1]) {
        const [source, destination] = ["source", "destination"].map((side) => tensors.get(`edit.${index}.${side}`)!);
        const width = source.shape[1];
        // The goldens' embeddings are f32 numbers, held as F64.
        const pair = [source.data, destination.data].map((data) => Float32Array.from(data)) as [
          Float32Array,
          Float32Array,
        ];
        for (const lamb of ["0.1", "10.0"]) {
          const golden = lessIdentity(Float64Array.from(tensors.get(`edit.${index}.${lamb}.operator`)!.data));
          for (const route of ["tokens", "channels"] as const) {
            const { change, report } = await solved(gpu, pair, { width, lamb: Number(lamb), route });
            assertClose(change, golden, tolerance, `edit ${index}, λ ${lamb}, ${route}`);
            assertEquals([report.rows, report.mergedRows, report.route], [308, 303, route]);
            assertEquals(report.precision, gpu.info.f64 ? "f64" : "f32 refined");
            assert(report.residual < 1e-5, `residual ${report.residual}`);
            const size = Math.hypot(...golden) / Math.sqrt(width);
            assertClose([report.relativeSize], [size], 1e-4, "relative size");
          }
        }
      }
    }, options);
  }

  gpuTest(`solveOperator() is exact to 1e-5 at d 768, n 308, condition number above 1e6, ${where}`, async (gpu) => {
    const { c, d, width, lamb, condition, expected } = edit ??= illConditioned();
    assert(condition >= 1e6, `condition ${condition}`);
    const { change: found, report } = await solved(gpu, [c, d], { width, lamb });
    assertEquals(report.route, "tokens");
    assert(report.conditionEstimate > condition / 2 && report.conditionEstimate < 2 * condition);
    assertClose(found, expected, tolerance);
  }, options);
}

/**
 * Rows with a known solution: sources cᵢ = aᵢ·hₖ with k = i mod d, where hₖ are the rows of the
 * reflection I − 2uuᵀ/uᵀu, and changes dᵢ − cᵢ = βᵢ·g. Since CᵀΩC = Σₖ sₖhₖhₖᵀ is diagonal in the
 * basis hₖ, E − I = g Σₖ tₖ/(λ + sₖ) hₖᵀ with sₖ = Σ wᵢaᵢ² and tₖ = Σ wᵢaᵢβᵢ.
 */
function reflectedRows(n: number, width: number, options: { lamb: number; spread: number }) {
  const { lamb, spread } = options;
  const u = random64(width, 1), g = random64(width, 2), beta = random64(n, 3);
  const uu = u.reduce((sum, value) => sum + value * value, 0);
  const h = (k: number, j: number) => (k === j ? 1 : 0) - 2 * u[k] * u[j] / uu;
  const c = new Float64Array(n * width), d = new Float64Array(n * width);
  const weights = Float64Array.from({ length: n }, (_, i) => 1 + i % 3);
  const s = new Float64Array(width), t = new Float64Array(width);
  for (let i = 0; i < n; i++) {
    const k = i % width, a = (1 + i / n) * 30 * 10 ** (-spread * k / Math.min(n, width));
    s[k] += weights[i] * a * a;
    t[k] += weights[i] * a * beta[i];
    for (let j = 0; j < width; j++) {
      c[i * width + j] = a * h(k, j);
      d[i * width + j] = c[i * width + j] + beta[i] * g[j];
    }
  }
  const row = new Float64Array(width);
  for (let k = 0; k < width; k++) for (let j = 0; j < width; j++) row[j] += t[k] / (lamb + s[k]) * h(k, j);
  return {
    c,
    d,
    weights,
    expected: Float64Array.from({ length: width * width }, (_, i) => g[Math.floor(i / width)] * row[i % width]),
  };
}

const closedForms = [
  { n: 1, width: 768, lamb: 0.01, spread: 0 },
  { n: 31, width: 768, lamb: 1e4, spread: 1 },
  { n: 308, width: 1024, lamb: 0.1, spread: 2 },
  { n: 500, width: 256, lamb: 0.1, spread: 2 },
  { n: 1024, width: 1024, lamb: 1, spread: 1.5 },
  { n: 1100, width: 768, lamb: 0.01, spread: 2 },
  { n: 4096, width: 768, lamb: 0.1, spread: 2 },
];
for (const [where, options] of devices) {
  for (const { n, width, lamb, spread } of closedForms) {
    // 15 pairs of slices take their time in software
    if (n * width > 600 * 600 && options.withoutFeatures) continue;
    gpuTest(
      `solveOperator() solves ${n} weighted rows of ${width} at λ ${lamb} as the closed form, ${where}`,
      async (gpu) => {
        const { c, d, weights, expected } = reflectedRows(n, width, { lamb, spread });
        using source = Tensor.from(gpu, c, [n, width]); // f64 needs no feature to be stored
        using destination = Tensor.from(gpu, d, [n, width]);
        using operator = await solveOperator(gpu, { source, destination, weights }, { lamb });
        assertEquals(operator.report!.route, n <= width ? "tokens" : "channels");
        assertClose(lessIdentity(await operator.dense()), expected, tolerance);
      },
      options,
    );
  }
}

gpuTest(
  "solveOperator() merges equal sources, drops rows of weight 0 and omits preserved rows from the factors",
  async (gpu) => {
    const width = 12, c = randomArray(5 * width, 1), d = randomArray(5 * width, 2);
    c.copyWithin(3 * width, 0, width); // row 3 repeats row 0's source
    d.set(c.subarray(width, 2 * width), width); // row 1 is one to keep
    const weights = Float64Array.of(1, 2, 1, 3, 0);
    const { report, change } = await solved(gpu, [c, d], { width, lamb: 0.5, weights });
    assertEquals([report.rows, report.mergedRows, report.rank], [5, 3, 2]);
    const difference = Float64Array.from(d, (value, i) => value - c[i]);
    const expected = normalEquations(Float64Array.from(c), difference, { width, lamb: 0.5, weights });
    assertClose(change, expected, tolerance);
  },
);

gpuTest("EditSystem solves for another λ with the Gram matrix that it kept", async (gpu) => {
  const [n, width] = [20, 36], c = randomArray(n * width, 3), d = randomArray(n * width, 4);
  using source = Tensor.from(gpu, c, [n, width]);
  using destination = Tensor.from(gpu, d, [n, width]);
  using system = await EditSystem.prepare(gpu, { source, destination });
  const difference = Float64Array.from(d, (value, i) => value - c[i]);
  for (const lamb of [0.01, 1, 100]) {
    using operator = await system.solve({ lamb });
    const expected = tokenEquations(Float64Array.from(c), difference, { width, lamb });
    assertClose(lessIdentity(await operator.dense()), expected, tolerance, `λ ${lamb}`);
  }
});

/** Two edits of one width to compose, with E₁, E₂ and I + s(E₁ − I) in float64. */
async function twoEdits(gpu: Gpu, width: number) {
  const make = async (n: number, seed: number) => {
    using source = Tensor.from(gpu, randomArray(n * width, seed), [n, width]);
    using destination = Tensor.from(gpu, randomArray(n * width, seed + 1), [n, width]);
    return await solveOperator(gpu, { source, destination }, { lamb: 1 });
  };
  // 40 rows of 24 channels: E is held whole
  return { thin: await make(5, 1), whole: await make(40, 11) };
}

gpuTest("apply(), compose() and scaled() agree with dense matrices", async (gpu) => {
  const width = 24, rows = 6, x = randomArray(rows * width, 9);
  const edits = await twoEdits(gpu, width);
  using thin = edits.thin;
  using whole = edits.whole;
  assertEquals([thin.rank, thin.report!.route, whole.report!.route], [5, "tokens", "channels"]);
  const matrices = { thin: await thin.dense(), whole: await whole.dense() };
  using input = Tensor.from(gpu, x, [2, 3, width]);
  const applied = (e: Float64Array) => product(x, transposed(e, width, width), rows, width, width);
  const check = async (operator: EditOperator, e: Float64Array, options: { strength?: number } = {}) => {
    using y = operator.apply(input, options);
    assertEquals(y.shape, [2, 3, width]);
    assertClose(await y.data(), applied(e), 1e-6);
  };
  for (const name of ["thin", "whole"] as const) {
    const operator = edits[name], e = matrices[name];
    await check(operator, e);
    const half = e.map((value, i) => i % (width + 1) === 0 ? (1 + value) / 2 : value / 2);
    await check(operator, half, { strength: 0.5 });
    using scaled = operator.scaled(0.5);
    await check(scaled, half);
    for (const other of ["thin", "whole"] as const) {
      using both = operator.compose(edits[other]);
      await check(both, product(e, matrices[other], width, width, width));
    }
  }
  using identity = EditOperator.identity(gpu, width);
  using same = identity.apply(input);
  assertEquals(await same.data(), x);
  using composed = identity.compose(thin);
  await check(composed, matrices.thin);
  using none = thin.apply(input, { strength: 0 });
  assertEquals(await none.data(), x);
});

gpuTest(
  "rows that the device cannot bind at once are solved in f64, and refused in f32 with what to do",
  async (gpu) => {
    const [n, width] = [300, 8], c = random64(n * width, 5), d = random64(n * width, 6);
    const rows = mergeRows(c, d, { width });
    const expected = normalEquations(c, d.map((value, i) => value - c[i]), { width, lamb: 2 });
    // C takes 300 · 32 · 8 bytes with its padding.
    for (const limit of gpu.info.f64 ? [undefined, 16_384] : []) {
      const { left, factors } = withBindingLimit(gpu, limit, () => {
        using solver = new ChannelSolver(gpu, rows);
        return solver.record(2);
      });
      assertClose(transposed(await left.float64(), width, width), expected, tolerance, `${limit}`);
      for (const owned of [left, ...factors]) owned[Symbol.dispose]();
    }
    const refused = (run: () => unknown) => assertThrows(run, EditError, "preserve fewer prompts");
    withBindingLimit(gpu, 16_384, () => {
      refused(() => new RefinedChannelSolver(gpu, rows));
      refused(() => new RefinedTokenSolver(gpu, rows));
    });
    // More sums than i32 holds, whatever the device binds.
    const many = mergeRows(random64(6145 * 4, 7), random64(6145 * 4, 8), { width: 4 });
    refused(() => new RefinedChannelSolver(gpu, many));
  },
);

gpuTest("an edit whose destinations are its sources changes nothing", async (gpu) => {
  using source = Tensor.from(gpu, randomArray(40, 1), [5, 8]);
  using operator = await solveOperator(gpu, { source, destination: source }, { lamb: 0.1 });
  assertEquals([operator.rank, operator.report!.relativeSize], [0, 0]);
  assertClose(lessIdentity(await operator.dense()), new Float64Array(64), 0);
});

gpuTest(
  "solveOperator() rejects a λ that is not positive, mismatched rows, and NaN",
  async (gpu) => {
    using source = Tensor.from(gpu, randomArray(40, 1), [5, 8]);
    using destination = Tensor.from(gpu, randomArray(40, 2), [5, 8]);
    for (const lamb of [0, -1, NaN, Infinity]) {
      const error = await assertRejects(
        () => solveOperator(gpu, { source, destination }, { lamb }),
        LambdaError,
      ) as LambdaError;
      assert(error instanceof EditError && Object.is(error.lamb, lamb));
    }
    using narrow = Tensor.from(gpu, randomArray(35, 2), [5, 7]);
    await assertRejects(() => solveOperator(gpu, { source, destination: narrow }), ShapeError, "[5, 7]");
    await assertRejects(() => solveOperator(gpu, { source, destination, weights: [1, 2] }), ShapeError, "2 weights");
    await assertRejects(
      () => solveOperator(gpu, { source, destination, weights: [1, 1, -2, 1, 1] }),
      EditError,
      "row 2 by -2",
    );
    await assertRejects(
      () => solveOperator(gpu, { source, destination, weights: [0, 0, 0, 0, 0] }),
      EditError,
      "none has a weight",
    );
    using broken = Tensor.from(gpu, randomArray(40, 1).map((value, i) => i === 19 ? NaN : value), [5, 8]);
    await assertRejects(() => solveOperator(gpu, { source: broken, destination }), EditError, "NaN in row 2, column 3");
    assertThrows(() => new EditOperator({ left: narrow }), ShapeError, "[5, 7]");
    using operator = await solveOperator(gpu, { source, destination });
    assertThrows(() => operator.apply(narrow), ShapeError, "must be 8");
  },
);

for (const [where, options] of devices) {
  gpuTest(
    `solveOperator() advises smaller weights where a larger λ would suppress the edit, ${where}`,
    async (gpu) => {
      const [n, width, lamb] = [6, 16, 0.1];
      const c = randomArray(n * width, 7), d = c.slice();
      d.set(randomArray(2 * width, 8), 4 * width); // the last two rows are edited
      using source = Tensor.from(gpu, c, [n, width]);
      using destination = Tensor.from(gpu, d, [n, width]);
      const solve = (weight: number, lamb: number) => {
        const weights = [weight, weight, weight, weight, 1, 1];
        return solveOperator(gpu, { source, destination, weights }, { lamb, route: "channels" });
      };
      const refused = await assertRejects(() => solve(1e14, lamb), IllConditionedError, "preserveWeight");
      const { message, weightFactor, proposedLamb } = refused as IllConditionedError;
      assert(message.endsWith(`by ${weightFactor} or more`), message);
      using operator = await solve(1e14 / weightFactor!, lamb);
      assert(operator.report!.relativeSize > 0.1, "it still edits");
      using suppressed = await solve(1e14, proposedLamb);
      assert(suppressed.report!.relativeSize < 1e-2, "the λ alone would not");
    },
    options,
  );
}

for (const [where, options] of devices) {
  gpuTest(
    `solveOperator() refuses a λ that is too small for the numbers and proposes one that works, ${where}`,
    async (gpu) => {
      const [n, width] = [40, 16]; // more rows than channels: the n × n system lives on λ alone
      const c = randomArray(n * width, 5).map((value) => value * 30);
      using source = Tensor.from(gpu, c, [n, width]);
      using destination = Tensor.from(gpu, randomArray(n * width, 6), [n, width]);
      const solve = (lamb: number) => solveOperator(gpu, { source, destination }, { lamb, route: "tokens" });
      const error = await assertRejects(() => solve(1e-13), IllConditionedError, "use ") as IllConditionedError;
      assertEquals([error.lamb, error.size], [1e-13, n]);
      assert(error.weightFactor === undefined && error.message.endsWith(`use ${error.proposedLamb} or more`));
      using operator = await solve(error.proposedLamb);
      const difference = (await destination.float64()).map((value, i) => value - c[i]);
      const expected = normalEquations(Float64Array.from(c), difference, { width, lamb: error.proposedLamb });
      assertClose(lessIdentity(await operator.dense()), expected, tolerance);
    },
    options,
  );
}
