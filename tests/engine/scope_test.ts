import { assert, assertEquals, assertThrows } from "@std/assert";
import { GpuError } from "../../engine/errors.ts";
import type { Gpu } from "../../engine/gpu.ts";
import { Tensor } from "../../engine/tensor.ts";
import { gpuTest } from "../gpu.ts";

const make = (gpu: Gpu, value = 0) => Tensor.from(gpu, new Float32Array([value]), [1]);

function isDisposed(tensor: Tensor): boolean {
  try {
    tensor.buffer;
    return false;
  } catch {
    return true;
  }
}

gpuTest("a scope disposes of all tensors except the one that it returns", async (gpu) => {
  const before = gpu.memory.live;
  const made: Tensor[] = [];
  using kept = gpu.scope(() => {
    for (let i = 0; i < 5; i++) made.push(make(gpu, i));
    return made[3];
  });
  assertEquals(made.map(isDisposed), [true, true, true, false, true]);
  assertEquals([...await kept.data()], [3]);
  assertEquals(gpu.memory.live - before, kept.buffer.size);
});

gpuTest("a scope keeps tensors in arrays and plain objects, at any depth", (gpu) => {
  const { list, nested, label, nothing } = gpu.scope(() => {
    make(gpu);
    return { list: [make(gpu), make(gpu)], nested: { deep: [{ x: make(gpu) }] }, label: "a", nothing: null };
  });
  const kept = [...list, nested.deep[0].x];
  assertEquals([...kept.map(isDisposed), label, nothing], [false, false, false, "a", null]);
  for (const tensor of kept) tensor[Symbol.dispose]();
});

gpuTest("what an inner scope returns belongs to the outer one", (gpu) => {
  let inner: Tensor | undefined;
  using kept = gpu.scope(() => {
    inner = gpu.scope(() => {
      make(gpu);
      return make(gpu);
    });
    assert(!isDisposed(inner), "alive in the outer scope");
    return make(gpu);
  });
  assert(isDisposed(inner!), "gone with the outer scope");
  assert(!isDisposed(kept));
});

gpuTest("a scope does not dispose of tensors from outside", (gpu) => {
  using outside = make(gpu);
  assertEquals(gpu.scope(() => outside), outside);
  gpu.scope(() => {
    make(gpu);
  });
  assert(!isDisposed(outside));
});

gpuTest("a scope keeps the memory of a returned reshape whose original it disposes of", async (gpu) => {
  using view = gpu.scope(() => Tensor.from(gpu, new Float32Array([1, 2, 3, 4]), [2, 2]).reshape([4]));
  assertEquals([view.shape, [...await view.data()]], [[4], [1, 2, 3, 4]]);
});

gpuTest("keep() removes a tensor from its scope", (gpu) => {
  let kept: Tensor | undefined;
  gpu.scope(() => {
    kept = make(gpu).keep();
  });
  assert(!isDisposed(kept!));
  kept![Symbol.dispose]();
});

gpuTest("a scope that throws disposes of all its tensors; the outer scope continues", (gpu) => {
  const before = gpu.memory.live;
  let first: Tensor | undefined, inner: Tensor | undefined, second: Tensor | undefined;
  gpu.scope(() => {
    first = make(gpu);
    assertThrows(
      () =>
        gpu.scope(() => {
          inner = make(gpu);
          throw new TypeError("on purpose");
        }),
      TypeError,
      "on purpose",
    );
    assertEquals([isDisposed(first), isDisposed(inner!)], [false, true]);
    second = make(gpu);
  });
  assertEquals([isDisposed(first!), isDisposed(second!), gpu.memory.live], [true, true, before]);
});

gpuTest("a scope with an async body throws and disposes of its tensors", (gpu) => {
  let made: Tensor | undefined;
  assertThrows(
    () =>
      gpu.scope(async () => {
        made = make(gpu);
        await Promise.resolve();
      }),
    GpuError,
    "Cannot keep a scope open across a wait: its body must not be async",
  );
  assert(isDisposed(made!));
});

gpuTest("a scope keeps tensors in objects that refer to each other", (gpu) => {
  interface Layer {
    readonly weight: Tensor;
    next?: Layer;
  }
  const first = gpu.scope(() => {
    const layers: Layer[] = [{ weight: Tensor.empty(gpu, [2]) }, { weight: Tensor.empty(gpu, [3]) }];
    [layers[0].next, layers[1].next] = [layers[1], layers[0]];
    return layers[0];
  });
  using one = first.weight;
  using two = first.next!.weight;
  assertEquals([one.isDisposed, two.isDisposed], [false, false]);
});
