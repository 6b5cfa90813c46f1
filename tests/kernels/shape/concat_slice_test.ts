import { assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import { DTypeError, ShapeError } from "../../../engine/errors.ts";
import { elements, Tensor } from "../../../engine/tensor.ts";
import { concat } from "../../../kernels/shape/concat.ts";
import { slice } from "../../../kernels/shape/slice.ts";
import { gpuTest } from "../../gpu.ts";
import { randomTensor, withBindingLimit, withGpuPolicy } from "../oracles.ts";

const modes = ["plain", "as on a GPU", "in windows"] as const;
const bindingLimit = 1024;

/** Indices start … end − 1 of an axis, by definition. */
function part(data: Float32Array, shape: number[], axis: number, start: number, end: number): number[] {
  const inner = elements(shape.slice(axis + 1));
  return [...data].filter((_, i) => {
    const index = Math.floor(i / inner) % shape[axis];
    return index >= start && index < end;
  });
}

/** A shape, one of its axes, and two places on that axis. */
const cuts = fc.array(fc.integer({ min: 0, max: 9 }), { minLength: 1, maxLength: 4 })
  .chain((shape) => fc.tuple(fc.constant(shape), fc.nat(shape.length - 1)))
  .chain(([shape, axis]) =>
    fc.record({
      shape: fc.constant(shape),
      axis: fc.constant(axis),
      places: fc.tuple(fc.nat(shape[axis]), fc.nat(shape[axis])),
      mode: fc.constantFrom(...modes),
    })
  );

gpuTest("slice() copies its range, and concat() of all slices restores the tensor", async (gpu) => {
  await fc.assert(
    fc.asyncProperty(cuts, async ({ shape, axis, places, mode }) => {
      const [start, end] = places.sort((a, b) => a - b);
      using x = randomTensor(gpu, shape);
      const run = () => [
        slice(x.tensor, axis, 0, start),
        slice(x.tensor, axis, start, end),
        slice(x.tensor, axis, end, shape[axis]),
      ];
      const inMode = <T>(body: () => T) =>
        withBindingLimit(
          gpu,
          mode === "in windows" ? bindingLimit : undefined,
          () => mode === "plain" ? body() : withGpuPolicy(gpu, body),
        );
      const parts = inMode(run);
      using middle = parts[1], first = parts[0], last = parts[2];
      assertEquals(middle.shape, shape.with(axis, end - start));
      assertEquals([...await middle.data()], part(x.data, shape, axis, start, end));
      using joined = inMode(() => concat([first, middle, last], axis));
      assertEquals(joined.shape, shape);
      assertEquals(await joined.data(), x.data);
    }),
    { numRuns: 60, seed: 7 },
  );
});

gpuTest(
  "concat() joins channels and batches by kernels, split at the binding limit, and by buffer copies",
  async (gpu) => {
    // The last is large enough to be copied between buffers on a software device.
    for (const [height, width] of [[3, 5], [4, 8], [48, 64]]) {
      for (const axis of [0, 1]) {
        for (const mode of modes) {
          using a = randomTensor(gpu, [2, 3, height, width], 1);
          using b = randomTensor(gpu, [2, 3, height, width], 2);
          const run = () => concat([a.tensor, b.tensor, a.tensor], axis);
          const limit = mode === "in windows" ? bindingLimit : undefined;
          using y = withBindingLimit(gpu, limit, () => mode === "plain" ? run() : withGpuPolicy(gpu, run));
          const outer = axis === 0 ? 1 : 2, inner = a.data.length / outer;
          const expected: number[] = [];
          for (let row = 0; row < outer; row++) {
            for (const { data } of [a, b, a]) expected.push(...data.subarray(row * inner, (row + 1) * inner));
          }
          assertEquals([...await y.data()], expected, `${height} × ${width}, axis ${axis}, ${mode}`);
        }
      }
    }
  },
);

gpuTest("slice() and concat() copy i32 and f16 unchanged", async (gpu) => {
  using ids = Tensor.from(gpu, new Int32Array([1, -2, 3, 4, 5, 6]), [2, 3]);
  using column = slice(ids, 1, 1, 2);
  using joined = concat([column, ids], 1);
  assertEquals([joined.dtype, ...await joined.data()], ["i32", -2, 1, -2, 3, 5, 4, 5, 6]);
  using f16Tensor = Tensor.from(gpu, new Float32Array([1, 2, 3, 4, 5, 6, 7, 8]), [2, 4], "f16");
  using rest = slice(f16Tensor, 1, 2, 4);
  assertEquals([rest.dtype, ...await rest.data()], ["f16", 3, 4, 7, 8]);
  assertThrows(() => gpu.scope(() => slice(f16Tensor, 1, 1, 3)), DTypeError, "multiples of 4 bytes");
});

gpuTest("concat() and slice() reject mismatched shapes and ranges", (gpu) => {
  using a = Tensor.empty(gpu, [2, 3]);
  using b = Tensor.empty(gpu, [3, 3]);
  using c = Tensor.empty(gpu, [2, 3], "f16");
  assertThrows(
    () => concat([a, b], 1),
    ShapeError,
    "Cannot join [2, 3], [3, 3] along axis 1 as all other axes must agree",
  );
  assertThrows(() => concat([a, a], 2), ShapeError, "there are 2 axes");
  assertThrows(() => concat([], 0), ShapeError, "at least one");
  assertThrows(() => concat([a, c], 0), DTypeError, "Cannot join f32 and f16 tensors");
  assertThrows(
    () => slice(a, 1, 2, 4),
    ShapeError,
    "Cannot slice 2 … 4 of axis 1 of [2, 3] as the range must lie in 0 … 3",
  );
  assertThrows(() => slice(a, 2, 0, 1), ShapeError, "axis 2 of [2, 3]");
});
