import { assert, assertEquals, assertRejects, assertStringIncludes, assertThrows } from "@std/assert";
import { DTypeError, GpuError, KernelError, ShapeError } from "../../../engine/errors.ts";
import { declareKernel, input, output, spread, storage } from "../../../engine/kernel/kernel.ts";
import { Tensor } from "../../../engine/tensor.ts";
import { gpuTest, lackOf } from "../../gpu.ts";

const free = () => ({ flops: 0, bytes: 0 });

/** y = factor · x + offset, one number a lane. */
const affine = declareKernel({
  name: "test_affine",
  bindings: { x: input(1), y: output(1) },
  params: { count: "u32", factor: "f32", offset: "i32" },
  constants: { NEGATE: "bool", BIAS: "u32" },
  wgsl: /* wgsl */ `
@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u) {
  if (id.x >= params.count) { return; }
  let value = params.factor * x_at(id.x) + f32(params.offset) + f32(BIAS);
  y_put(id.x, select(value, -value, NEGATE));
}`,
  grid: ({ count }) => [Math.ceil(count / 64), 1, 1],
  cost: ({ count }) => ({ flops: 2 * count, bytes: 8 * count }),
});

const constants = { NEGATE: false, BIAS: 0 };

gpuTest("params of every type, and constants, reach the shader", async (gpu) => {
  using x = Tensor.from(gpu, new Float32Array([1, 2, 3]), [3]);
  using y = Tensor.empty(gpu, [3]);
  affine.run(gpu, { x, y }, { count: 3, factor: 0.5, offset: -7 }, constants);
  assertEquals([...await y.data()], [-6.5, -6, -5.5]);
  affine.run(gpu, { x, y }, { count: 3, factor: 0.5, offset: -7 }, { NEGATE: true, BIAS: 1 });
  assertEquals([...await y.data()], [5.5, 5, 4.5]);
});

gpuTest("params have their values in functions and loops, copied and not", async (gpu) => {
  for (const copiesParams of [true, false]) {
    // One kernel for each, as a device compiles a kernel only once.
    const polynomial = declareKernel({
      name: "test_polynomial",
      bindings: { y: output(1) },
      params: { terms: "u32", x: "f32", step: "i32" },
      wgsl: /* wgsl */ `
// Not the entry point: @compute fn main() {
/* nor this one: fn main() { */
fn term(sum: f32, i: u32) -> f32 { return fma(sum, params.x, f32(i32(i) * params.step)); }
@workgroup_size(1) @compute
fn main(@builtin(workgroup_id) group: vec3u) {
  var sum = 0.0;
  for (var i = 0u; i < params.terms; i++) { sum = term(sum, i); }
  if (params.step < 0) { sum += params.x; }
  y_put(group.x, sum);
}`,
      grid: () => [2, 1, 1],
      cost: free,
    });
    using y = Tensor.empty(gpu, [2]);
    gpu.context.describedAs({ copiesParams }, () => polynomial.run(gpu, { y }, { terms: 4, x: 2, step: -3 }));
    assertEquals([...await y.data()], [-31, -31], `copied: ${copiesParams}`); // −3 (1·4 + 2·2 + 3) + 2
  }
});

gpuTest("a function that takes a pointer to the params is refused, on every device", (gpu) => {
  const reading = (declared: string) =>
    declareKernel({
      name: "pointed",
      bindings: { y: output(1) },
      params: { value: "f32" },
      wgsl: `// no ptr<uniform, f32> in a comment
fn twice(${declared}) -> f32 { return 2.0 * ${declared.includes("ptr") ? "*" : ""}value; }
@compute @workgroup_size(1)
fn main() { y_put(0u, twice(${declared.includes("ptr") ? "&" : ""}params.value)); }`,
      grid: () => [1, 1, 1],
      cost: () => ({ flops: 1, bytes: 4 }),
    });
  using y = Tensor.empty(gpu, [1]);
  reading("value: f32").run(gpu, { y }, { value: 1 });
  for (const type of ["ptr<uniform, f32>", "ptr < uniform, f32>"]) {
    assertThrows(() => reading(`value: ${type}`).run(gpu, { y }, { value: 1 }), KernelError, "by value");
  }
});

gpuTest("input() reads f32 and f16 as elements or vec4; output() writes both", async (gpu) => {
  const numbers = [1, -2, 3.5, 4, 0.25, 6, 7, 8];
  for (const lanes of [1, 4] as const) {
    const double = declareKernel({
      name: "test_double",
      bindings: { x: input("LANES"), y: output("LANES") },
      params: { count: "u32" },
      constants: { LANES: "u32" },
      wgsl: `@compute @workgroup_size(8) fn main(@builtin(global_invocation_id) id: vec3u) {
        if (id.x < params.count) { y_put(id.x, x_at(id.x)); y_put(id.x, y_at(id.x) + x_at(id.x)); }
      }`,
      grid: () => [1, 1, 1],
      cost: free,
    });
    for (const from of ["f32", "f16"] as const) {
      for (const to of lanes === 4 ? ["f32", "f16"] as const : ["f32"] as const) {
        using x = Tensor.from(gpu, new Float32Array(numbers), [8], from);
        using y = Tensor.empty(gpu, [8], to);
        double.run(gpu, { x, y }, { count: 8 / lanes }, { LANES: lanes });
        assertEquals([...await y.data()], numbers.map((n) => 2 * n), `${from} to ${to}, ${lanes} lanes`);
      }
    }
  }
});

gpuTest(
  "NAME_half_at is an access as f16, and the other accessors agree, for tensors of f32 and of f16",
  async (gpu) => {
    const numbers = [1, -2, 3.5, 4, 2 ** -24, 6, -0, 65504];
    for (const lanes of [1, 4] as const) {
      const vector = lanes === 4 ? ["vec4<f16>", "vec4f"] : ["f16", "f32"];
      const sum = declareKernel({
        name: "test_halves",
        bindings: { x: input("LANES"), y: output("LANES") },
        params: { count: "u32" },
        constants: { LANES: "u32" },
        extensions: ["f16"],
        wgsl: `@compute @workgroup_size(8) fn main(@builtin(global_invocation_id) id: vec3u) {
          if (id.x >= params.count) { return; }
          let half: ${vector[0]} = x_half_at(id.x);
          y_put(id.x, ${vector[1]}(half));
          y_put(id.x, y_at(id.x) + x_at(id.x)${
          lanes === 4 ? " * vec4f(1.0 + x_element_at(4u * id.x) - x_at(id.x).x)" : ""
        });
        }`,
        grid: () => [1, 1, 1],
        cost: free,
      });
      for (const from of ["f32", "f16"] as const) {
        for (const to of lanes === 4 ? ["f32", "f16"] as const : ["f32"] as const) {
          const scale = to === "f16" ? 0.5 : 1; // twice the largest f16 is none
          using x = Tensor.from(gpu, new Float32Array(numbers.map((n) => n * scale)), [8], from);
          using y = Tensor.empty(gpu, [8], to);
          sum.run(gpu, { x, y }, { count: 8 / lanes }, { LANES: lanes });
          const expected = numbers.map((n) => 2 * Math.fround(scale * n === 2 ** -25 ? 0 : scale * n));
          assertEquals([...await y.data()], expected, `${from} to ${to}, ${lanes} lanes`);
        }
      }
    }
  },
  {},
  await lackOf("shader-f16"),
);

gpuTest("input() and output() reject integers and f64, and output(1) rejects f16", (gpu) => {
  using ids = Tensor.empty(gpu, [3], "i32");
  using half = Tensor.empty(gpu, [3], "f16");
  using x = Tensor.empty(gpu, [3]);
  const params = { count: 3, factor: 1, offset: 0 };
  assertThrows(
    () => affine.run(gpu, { x: ids, y: x }, params, constants),
    DTypeError,
    "Cannot bind x to test_affine as the binding takes f32 or f16: i32",
  );
  assertThrows(
    () => affine.run(gpu, { x, y: half }, params, constants),
    DTypeError,
    "Cannot write y of test_affine in f16",
  );
});

gpuTest("NAME_element_at is one element of a binding with vec4 or vec8 accesses, in f32 and f16", async (gpu) => {
  const reversed = declareKernel({
    name: "test_reversed",
    bindings: { x: input("WIDTH"), y: output(1) },
    params: { count: "u32" },
    constants: { WIDTH: "u32" },
    wgsl: `@compute @workgroup_size(8) fn main(@builtin(global_invocation_id) id: vec3u) {
      if (id.x < params.count) { y_put(id.x, x_element_at(params.count - 1u - id.x)); }
    }`,
    grid: () => [4, 1, 1],
    cost: free,
  });
  const numbers = Float32Array.from({ length: 32 }, (_, i) => i - 7);
  for (const width of [4, 8]) {
    for (const dtype of ["f32", "f16"] as const) {
      using x = Tensor.from(gpu, numbers, [32], dtype);
      using y = Tensor.empty(gpu, [32]);
      reversed.run(gpu, { x, y }, { count: 32 }, { WIDTH: width });
      assertEquals(await y.data(), numbers.toReversed(), `${dtype}, ${width} per access`);
    }
  }
});

gpuTest("storage() binds any WGSL type, and string constants are type aliases", async (gpu) => {
  const count = declareKernel({
    name: "test_count",
    bindings: { x: storage("read", "array<element>"), y: storage("write", "array<element>") },
    params: {},
    constants: { element: "type" },
    wgsl: `@compute @workgroup_size(4) fn main(@builtin(local_invocation_index) i: u32) { y[i] = x[i] + element(1); }`,
    grid: () => [1, 1, 1],
    cost: free,
  });
  for (
    const [element, data] of [["i32", new Int32Array([-2, 0, 5, 7])], ["u32", new Uint32Array([0, 1, 5, 7])]] as const
  ) {
    using x = Tensor.from(gpu, data, [4]);
    using y = Tensor.empty(gpu, [4], element);
    count.run(gpu, { x, y }, {}, { element });
    assertEquals([...await y.data()], [...data].map((n) => n + 1));
  }
});

gpuTest("a window binds a range of a tensor", async (gpu) => {
  using x = Tensor.from(gpu, Float32Array.from({ length: 200 }, (_, i) => i), [200]);
  using y = Tensor.from(gpu, new Float32Array(200), [200]);
  affine.run(gpu, { x: x.window(64, 64), y: y.window(128, 64) }, { count: 64, factor: 1, offset: 0 }, constants);
  const data = await y.data();
  assertEquals([data[127], data[128], data[191], data[192]], [0, 64, 127, 0]);
});

gpuTest("an empty window binds, also at the very end of its tensor", async (gpu) => {
  const rest = declareKernel({
    name: "test_rest",
    bindings: { x: input(1), y: output(1) },
    params: { count: "u32" },
    wgsl: "@compute @workgroup_size(1) fn main() { y_put(0u, 5.0); if (params.count > 0u) { y_put(0u, x_at(0u)); } }",
    grid: () => [1, 1, 1],
    cost: free,
  });
  for (const size of [0, 64, 128]) {
    using x = Tensor.filled(gpu, [size], "f32", () => {});
    using y = Tensor.empty(gpu, [1]);
    rest.run(gpu, { x: x.window(size, 0), y }, { count: 0 });
    assertEquals([...await y.data()], [5], `${size}`);
  }
});

gpuTest("a window off the tensor, of a fraction of an element or off the alignment throws", (gpu) => {
  using x = Tensor.empty(gpu, [4, 50]);
  using half = Tensor.empty(gpu, [200], "f16");
  const refused = (tensor: Tensor, [first, count]: readonly number[], reason: string) => {
    const error = assertThrows(() => tensor.window(first, count), ShapeError, reason);
    assertStringIncludes(error.message, `Cannot take ${count} elements from ${first} on of a tensor [`);
    assertEquals(error.shapes, [tensor.shape]);
  };
  for (const range of [[-64, 64], [0.5, 1], [64, -1], [0, 1.5], [NaN, 1], [0, NaN], [0, Infinity]]) {
    refused(x, range, "both must be whole numbers of at least 0");
  }
  for (const range of [[0, 201], [192, 9], [256, 0]]) refused(x, range, "it holds 200 elements");
  refused(x, [32, 64], "a window of f32 must begin at a multiple of 64 elements");
  refused(half, [64, 64], "a window of f16 must begin at a multiple of 128 elements");
  assertEquals(x.window(192, 8).byteOffset, 768);
  assertEquals(half.window(128, 72).bytes, 144);
});

gpuTest("a binding above the device's limit throws with the limit and the size", (gpu) => {
  using x = Tensor.empty(gpu, [5, 100]);
  const limits = { ...gpu.info.limits, maxStorageBufferBindingSize: 1999 };
  const error = assertThrows(
    () =>
      gpu.context.describedAs({ limits }, () => {
        affine.run(gpu, { x, y: x }, { count: 500, factor: 1, offset: 0 }, constants);
      }),
    ShapeError,
    "Cannot bind x [5, 100] to test_affine as this device binds 1999 bytes at most: 2000",
  );
  assertEquals(error.shapes, [[5, 100]]);
});

gpuTest("a grid of no workgroups runs nothing", async (gpu) => {
  using x = Tensor.from(gpu, new Float32Array([1]), [1]);
  using y = Tensor.from(gpu, new Float32Array([5]), [1]);
  affine.run(gpu, { x, y }, { count: 0, factor: 2, offset: 0 }, constants);
  assertEquals([...await y.data()], [5]);
});

gpuTest("a grid that an axis does not hold throws with its workgroups", (gpu) => {
  using x = Tensor.empty(gpu, [4]);
  const tall = declareKernel({
    name: "test_tall",
    bindings: { x: output(1) },
    params: { rows: "u32" },
    wgsl: `@compute @workgroup_size(1) fn main() { x_put(0u, f32(params.rows)); }`,
    grid: ({ rows }) => [1, rows, 1],
    cost: free,
  });
  assertThrows(
    () => tall.run(gpu, { x }, { rows: 65_536 }),
    ShapeError,
    "Cannot run test_tall on 1 × 65536 × 1 workgroups as an axis holds 65535",
  );
});

gpuTest("a tensor without elements is bound to a kernel of any width", async (gpu) => {
  const count = declareKernel({
    name: "test_empty",
    bindings: { x: input(8), y: output(1) },
    params: { vec8s: "u32" },
    wgsl: `@compute @workgroup_size(1) fn main() {
  var sum = 1.0;
  for (var i = 0u; i < params.vec8s; i++) { sum += x_at(i)[0].x; }
  y_put(0u, sum);
}`,
    grid: () => [1, 1, 1],
    cost: free,
  });
  for (const exact of [false, true]) {
    using x = Tensor.empty(gpu, [0, 8], "f32", { exact });
    using y = Tensor.empty(gpu, [1]);
    count.run(gpu, { x, y }, { vec8s: 0 });
    assertEquals([...await y.data()], [1]);
  }
});

Deno.test("spread() covers all workgroups on two axes of at most 65,535, with less than one row in excess", () => {
  for (const workgroups of [0, 1, 65535, 65536, 65537, 1_000_003, 65535 * 65535]) {
    const [x, y, z] = spread(workgroups);
    assert(x <= 65535 && y <= 65535 && z === 1, `${workgroups}: ${x} × ${y}`);
    assert(x * y >= workgroups && x * y - workgroups < Math.max(y, 1), `${workgroups}: ${x} × ${y}`);
  }
});

gpuTest("a kernel is compiled once per set of constants and dtypes", (gpu) => {
  let compiled = 0;
  const counted = declareKernel({
    name: "test_compiled",
    bindings: { x: input(4), y: output(4) },
    params: {},
    constants: { K: "u32" },
    wgsl: ({ K }) => {
      compiled++;
      return `@compute @workgroup_size(1) fn main() { y_put(0u, x_at(0u) * f32(${K})); }`;
    },
    grid: () => [1, 1, 1],
    cost: free,
  });
  using x = Tensor.empty(gpu, [4]);
  using half = Tensor.empty(gpu, [4], "f16");
  using y = Tensor.empty(gpu, [4]);
  for (let turn = 0; turn < 3; turn++) {
    counted.run(gpu, { x, y }, {}, { K: 1 });
    counted.run(gpu, { x, y }, {}, { K: 2 });
    counted.run(gpu, { x: half, y }, {}, { K: 2 });
  }
  assertEquals(compiled, 3);
});

gpuTest(
  "an invalid kernel throws a KernelError with its source at every next wait; the device stays usable",
  async (gpu) => {
    const broken = declareKernel({
      name: "test_broken",
      bindings: { y: output(1) },
      params: {},
      wgsl: "@compute @workgroup_size(1) fn main() { y_put(0u, no_such_thing); }",
      grid: () => [1, 1, 1],
      cost: free,
    });
    using x = Tensor.from(gpu, new Float32Array([1, 2]), [2]);
    using y = Tensor.empty(gpu, [2]);
    for (let turn = 0; turn < 2; turn++) {
      broken.run(gpu, { y }, {}); // does not throw: WebGPU tells later
      const error = await assertRejects(() => gpu.finished(), KernelError, "Could not compile the kernel test_broken");
      assertStringIncludes(error.message, "no_such_thing");
      assertStringIncludes(error.source, "y_put(0u, no_such_thing)");
      assert(error instanceof GpuError);
      affine.run(gpu, { x, y }, { count: 2, factor: 3, offset: 0 }, constants);
      assertEquals([...await y.data()], [3, 6]);
    }
  },
);

gpuTest("a kernel refuses a grid that is none, and a tensor or a param that is missing", (gpu) => {
  using x = Tensor.from(gpu, new Float32Array([1]), [1]);
  using y = Tensor.empty(gpu, [1]);
  const params = { count: NaN, factor: 1, offset: 0 };
  assertThrows(() => affine.run(gpu, { x, y }, params, constants), ShapeError, "on NaN × 1 × 1 workgroups");
  const count = { ...params, count: 1 };
  const misused = (more: object) => () => affine.run(gpu, { x, y }, { ...count, ...more }, constants);
  assertThrows(misused({ factor: undefined }), GpuError, "factor must be a number: undefined");
  assertThrows(misused({ offset: NaN }), GpuError, "offset must be a number: NaN");
  assertThrows(() => affine.run(gpu, { x } as { x: Tensor; y: Tensor }, count, constants), GpuError, "its binding y");
});
