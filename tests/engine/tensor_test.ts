import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { DTypeError, GpuError, ShapeError } from "../../engine/errors.ts";
import { elements, Tensor } from "../../engine/tensor.ts";
import { add } from "../../kernels/shape/linear_combination.ts";
import { gpuTest } from "../gpu.ts";

gpuTest("data() returns the elements that a tensor was made from, for every dtype and odd counts", async (gpu) => {
  for (const dtype of ["f32", "f16", "f64", "i32", "u32"] as const) {
    for (const count of [0, 1, 2, 3, 5, 64, 65]) {
      const data = Float32Array.from({ length: count }, (_, i) => i);
      using x = Tensor.from(gpu, data, [count], dtype);
      assertEquals([x.dtype, x.size, x.shape], [dtype, count, [count]]);
      assertEquals(await x.data(), data);
    }
  }
});

gpuTest("a tensor's dtype is its array's by default", (gpu) => {
  using half = Tensor.from(gpu, new Uint16Array(6), [2, 3]);
  using whole = Tensor.from(gpu, new Int32Array(6), [6]);
  using double = Tensor.from(gpu, new Float64Array(6), [3, 2]);
  using narrowed = Tensor.from(gpu, new Float64Array(6), [3, 2], "f32");
  assertEquals([half, whole, double, narrowed].map(({ dtype }) => dtype), ["f16", "i32", "f64", "f32"]);
  assertEquals([half, whole, double, narrowed].map(({ bytes }) => bytes), [12, 24, 48, 24]);
});

gpuTest("float64() does not round f64, widens f32, and throws for other dtypes", async (gpu) => {
  using fine = Tensor.from(gpu, new Float64Array([Math.PI, 1e300]), [2]);
  using coarse = Tensor.from(gpu, new Float32Array([0.5]), [1]);
  using half = Tensor.from(gpu, new Uint16Array(1), [1]);
  assertEquals([...await fine.float64()], [Math.PI, 1e300]);
  assertEquals([...await coarse.float64()], [0.5]);
  await assertRejects(() => half.float64(), DTypeError, "Cannot read f16 elements as f64");
});

gpuTest("the shape is copied from the caller's array", (gpu) => {
  const shape = [2, 3];
  using x = Tensor.empty(gpu, shape);
  shape[0] = 7;
  assertEquals(x.shape, [2, 3]);
});

gpuTest("a scalar's shape is empty", async (gpu) => {
  using x = Tensor.from(gpu, new Float32Array([5]), []);
  assertEquals([elements([]), x.size, x.dims.length, ...await x.data()], [1, 1, 1, 5]);
});

gpuTest("dims() returns the shape as a tuple, and throws for another rank", (gpu) => {
  using x = Tensor.empty(gpu, [2, 3, 4]);
  const [batch, rows, columns] = x.dims(3);
  assertEquals([batch, rows, columns], [2, 3, 4]);
  assertThrows(() => x.dims(4), ShapeError, "Expected a tensor of rank 4: [2, 3, 4] has rank 3");
});

gpuTest("shapes that are invalid or do not match the data throw", (gpu) => {
  const message = "Cannot make a tensor [2, 2] from 3 elements: the shape holds 4";
  const error = assertThrows(() => Tensor.from(gpu, new Float32Array(3), [2, 2]), ShapeError, message);
  assertEquals(error.shapes, [[2, 2]]);
  assert(error instanceof RangeError);
  for (const shape of [[-1], [1.5], [NaN], [2, Infinity]]) {
    assertThrows(() => Tensor.empty(gpu, shape), ShapeError, "axis lengths must be integers ≥ 0");
  }
});

gpuTest("reshape() shares memory, which lives until the last tensor is disposed of", async (gpu) => {
  const before = gpu.memory.live;
  const x = Tensor.from(gpu, new Float32Array([1, 2, 3, 4, 5, 6]), [2, 3]);
  const held = gpu.memory.live - before;
  const y = x.reshape([3, 2]);
  assertEquals(y.buffer, x.buffer);
  assertEquals(gpu.memory.live - before, held);
  x[Symbol.dispose]();
  x[Symbol.dispose](); // twice is harmless: it must not take y's share
  assertEquals(gpu.memory.live - before, held);
  assertEquals([y.shape, [...await y.data()]], [[3, 2], [1, 2, 3, 4, 5, 6]]);
  assertThrows(
    () => y.reshape([4]),
    ShapeError,
    "Cannot reshape [3, 2] to [4]: the number of elements must be the same, 6 ≠ 4",
  );
  y[Symbol.dispose]();
  assertEquals(gpu.memory.live - before, 0);
});

gpuTest("a disposed tensor cannot be used", async (gpu) => {
  const x = Tensor.empty(gpu, [2]);
  x[Symbol.dispose]();
  assertThrows(() => x.buffer, GpuError, "Cannot use a tensor [2] after it was disposed");
  assertThrows(() => x.reshape([2, 1]), GpuError, "disposed");
  assertThrows(() => x.write(new Uint8Array(4)), GpuError, "disposed");
  await assertRejects(() => x.data(), GpuError, "disposed");
});

gpuTest("write() takes effect between the work recorded before and after it", async (gpu) => {
  using x = Tensor.from(gpu, new Float32Array([1, 2, 3, 4]), [4]);
  using before = add(x, x);
  x.write(new Uint8Array(Float32Array.of(20, 30).buffer), 4);
  using after = add(x, x);
  assertEquals([...await before.data()], [2, 4, 6, 8]);
  assertEquals([...await after.data()], [2, 40, 60, 8]);
});

gpuTest(
  "write() throws for bytes beyond the tensor and for partial words, except the last",
  async (gpu) => {
    using x = Tensor.from(gpu, new Float32Array([1, 2, 3]), [3], "f16");
    assertThrows(() => x.write(new Uint8Array(8)), ShapeError, "Cannot write 8 bytes at 0 of a tensor [3] of 6 bytes");
    assertThrows(() => x.write(new Uint8Array(4), 2), ShapeError, "whole 4-byte words");
    assertThrows(() => x.write(new Uint8Array(2)), ShapeError, "whole 4-byte words");
    x.write(new Uint8Array(Float16Array.of(7).buffer), 4);
    assertEquals([...await x.data()], [1, 2, 7]);
  },
);

gpuTest(
  "a reused buffer gives each recorded reader its own content",
  async (gpu) => {
    using ones = Tensor.from(gpu, new Float32Array([1, 1]), [2]);
    const a = Tensor.from(gpu, new Float32Array([1, 2]), [2]);
    using sum = add(a, ones); // recorded, not run
    const { buffer } = a;
    a[Symbol.dispose]();
    using b = Tensor.from(gpu, new Float32Array([10, 20]), [2]);
    assertEquals(b.buffer, buffer);
    using other = add(b, ones);
    assertEquals([...await sum.data(), ...await other.data()], [2, 3, 11, 21]);
  },
);

gpuTest("filled() returns what its body has written, and frees the tensor of a body that throws", async (gpu) => {
  const bytes = new Uint8Array(Float32Array.of(1, 2).buffer);
  using tensor = Tensor.filled(gpu, [2], "f32", (tensor) => tensor.write(bytes));
  assertEquals([...await tensor.data()], [1, 2]);
  const { live } = gpu.memory;
  assertThrows(
    () => Tensor.filled(gpu, [1], "f32", (tensor) => tensor.write(bytes)),
    ShapeError,
    "Cannot write 8 bytes",
  );
  assertEquals(gpu.memory.live, live);
});

gpuTest("data() returns an array over the elements alone, also of a tensor without any", async (gpu) => {
  for (const count of [0, 1, 3]) {
    using tensor = Tensor.from(gpu, new Float32Array(count), [count]);
    const { buffer, length } = await tensor.data();
    assertEquals([length, buffer.byteLength], [count, 4 * count]);
  }
});
