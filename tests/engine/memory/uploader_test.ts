import { assert, assertEquals, assertRejects } from "@std/assert";
import { ShapeError } from "../../../engine/errors.ts";
import { Tensor } from "../../../engine/tensor.ts";
import { Uploader } from "../../../engine/memory/uploader.ts";
import { add } from "../../../kernels/shape/linear_combination.ts";
import { gpuTest, randomArray } from "../../gpu.ts";

gpuTest("Uploader writes every byte, for any stage size and any split of the bytes", async (gpu) => {
  for (const stageBytes of [4, 64, 1000, 1 << 16]) {
    using uploader = new Uploader(gpu, { stageBytes });
    const arrays = [1, 250, 3, 1024].map((length, i) => randomArray(length, i + 1));
    const tensors = arrays.map((array) => Tensor.empty(gpu, [array.length]));
    for (const [i, tensor] of tensors.entries()) {
      const bytes = new Uint8Array(arrays[i].buffer);
      for (let from = 0; from < bytes.length; from += 400) {
        await uploader.write(tensor, bytes.subarray(from, from + 400), from);
      }
    }
    await uploader.finish();
    for (const [i, tensor] of tensors.entries()) {
      assertEquals(await tensor.data(), arrays[i]);
      tensor[Symbol.dispose]();
    }
  }
});

gpuTest("Uploader writes a tensor of an odd number of f16", async (gpu) => {
  using uploader = new Uploader(gpu, { stageBytes: 8 });
  using tensor = Tensor.empty(gpu, [7], "f16");
  await uploader.write(tensor, new Uint8Array(Uint16Array.from({ length: 7 }, (_, i) => 0x3c00 + i).buffer));
  await uploader.finish();
  assertEquals([...await tensor.data()], Array.from({ length: 7 }, (_, i) => 1 + i / 1024));
});

gpuTest(
  "work recorded by afterwards() reads the new elements, work recorded before reads the old ones",
  async (gpu) => {
    using uploader = new Uploader(gpu, { stageBytes: 1024 });
    using tensor = Tensor.from(gpu, new Float32Array([1, 2]), [2]);
    using before = add(tensor, tensor);
    let after: Tensor | undefined;
    await uploader.write(tensor, new Uint8Array(new Float32Array([10, 20]).buffer));
    uploader.afterwards(() => after = add(tensor, tensor));
    assertEquals(after, undefined);
    await uploader.finish();
    assert(after !== undefined);
    using result = after as Tensor;
    assertEquals([...await before.data()], [2, 4]);
    assertEquals([...await result.data()], [20, 40]);
  },
);

gpuTest("Uploader throws for bytes beyond the tensor and for partial words inside it", async (gpu) => {
  using uploader = new Uploader(gpu, { stageBytes: 64 });
  using tensor = Tensor.from(gpu, new Float32Array([1, 2]), [2]);
  await assertRejects(() => uploader.write(tensor, new Uint8Array(12)), ShapeError, "12 bytes at 0");
  await assertRejects(() => uploader.write(tensor, new Uint8Array(4), 2), ShapeError, "4 bytes at 2");
  await assertRejects(() => uploader.write(tensor, new Uint8Array(3)), ShapeError, "3 bytes at 0");
  assertEquals([...await tensor.data()], [1, 2]);
});
