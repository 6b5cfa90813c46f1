import { assertEquals, assertThrows } from "@std/assert";
import { ShapeError } from "../../../engine/errors.ts";
import { Tensor } from "../../../engine/tensor.ts";
import { AutoencoderTiny } from "../../../pipeline/models/tiny_vae.ts";
import { loadGoldens } from "../../goldens.ts";
import { assertClose, gpuTest } from "../../gpu.ts";
import { goldens } from "../../paths.ts";

gpuTest("AutoencoderTiny decodes and encodes as diffusers", async (gpu) => {
  const { tensors } = await loadGoldens("small_models");
  const upload = (name: string) => {
    const { data, shape } = tensors.get(name)!;
    return Tensor.from(gpu, Float32Array.from(data), shape);
  };
  using tiny = await AutoencoderTiny.fromPretrained(`${goldens}/tiny-vae`, { gpu });
  assertEquals([tiny.spatialScale, tiny.config.scalingFactor], [4, 1]);
  using latents = upload("tiny.latents");
  using decoded = tiny.decode(latents);
  assertEquals(decoded.shape, tensors.get("tiny.decoded")!.shape);
  assertClose(await decoded.data(), tensors.get("tiny.decoded")!.data, 2e-5, "decoded");
  using picture = upload("tiny.picture");
  using encoded = tiny.encode(picture).mean;
  assertClose(await encoded.data(), tensors.get("tiny.encoded")!.data, 2e-5, "encoded");
  using odd = Tensor.from(gpu, new Float32Array(3 * 6 * 8), [1, 3, 6, 8]);
  assertThrows(() => tiny.encode(odd), ShapeError, "divisible by 4");
});
