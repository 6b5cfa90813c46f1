import { assertEquals, assertRejects, assertThrows } from "@std/assert";
import { ConfigError } from "../../../pipeline/errors.ts";
import { CLIPImageProcessor } from "../../../pipeline/image/clip_image_processor.ts";
import { ImageError } from "../../../pipeline/image/errors.ts";
import type { Picture } from "../../../pipeline/image/picture.ts";
import { resizeBicubic } from "../../../pipeline/image/resize.ts";
import { memoryTree } from "../../../pipeline/checkpoint/source/file_tree.ts";
import { parseCLIPImageProcessorConfig } from "../../../pipeline/checkpoint/diffusers/config/clip_image_processor.ts";
import { loadGoldens } from "../../goldens.ts";
import { goldens, referenceFolder } from "../../paths.ts";

/** What tests/reference/image_processor.py recorded. */
const reference = JSON.parse(
  await Deno.readTextFile(`${referenceFolder}/image_processor.json`),
);

/** The pictures of tests/reference/image_processor.py. */
function picture([width, height]: [number, number], stark = false): Picture {
  let state = width * 1000 + height;
  const data = Uint8Array.from({ length: height * width * 3 }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return stark ? 255 * (state >>> 31) : state >>> 24;
  });
  return { data, width, height };
}

async function digest(bytes: Uint8Array): Promise<string> {
  return new Uint8Array(await crypto.subtle.digest("SHA-256", bytes.slice())).toHex();
}

const processorOf = (json: unknown) =>
  new CLIPImageProcessor(parseCLIPImageProcessorConfig(json, "preprocessor_config.json"));

Deno.test("resizeBicubic() gives PIL's bytes, up and down, in one axis and both, with and without overshoot", async () => {
  for (const { from, to: [width, height], stark, sha256: expected } of reference.resized) {
    const { data, ...size } = resizeBicubic(picture(from, stark), { width, height });
    assertEquals(size, { width, height });
    assertEquals(await digest(data), expected, `${from} → ${width},${height}${stark ? " stark" : ""}`);
  }
});

Deno.test("CLIPImageProcessor is bit-exact with transformers for each form of its configuration", async () => {
  for (const { config, from, shape: [, , height, width], sha256: expected } of reference.processed) {
    const processor = processorOf(config);
    const values = processor.preprocess(picture(from));
    const note = `${JSON.stringify(config)} of ${from}`;
    assertEquals(processor.outputSize({ width: from[0], height: from[1] }), { width, height }, note);
    assertEquals(await digest(new Uint8Array(values.buffer)), expected, note);
  }
});

Deno.test("CLIPImageProcessor gives the golden pixel values of the safety checker's pictures", async () => {
  const processor = await CLIPImageProcessor.fromPretrained(`${goldens}/feature_extractor`);
  const { tensors } = await loadGoldens("safety");
  for (let i = 0; i < 6; i++) {
    const { shape: [height, width], data } = tensors.get(`image.${i}`)!;
    assertEquals(
      processor.preprocess({ data: Uint8Array.from(data), width, height }),
      tensors.get(`pixel_values.${i}`)!.data,
      `image.${i}`,
    );
  }
});

Deno.test("for odd padding, the extra row is at the top and the extra column at the left", () => {
  // transformers 4.35 loses a column here; later versions do not.
  const processor = processorOf({
    do_resize: false,
    crop_size: { height: 4, width: 4 },
    do_normalize: false,
    rescale_factor: 1,
  });
  const values = processor.preprocess({ data: new Uint8Array([7, 8, 9]), width: 1, height: 1 });
  const expected = new Float32Array(48);
  [7, 8, 9].forEach((value, channel) => expected[channel * 16 + 2 * 4 + 2] = value);
  assertEquals(values, expected);
});

Deno.test("sizes can give both sides, and every step can be disabled", () => {
  assertEquals(parseCLIPImageProcessorConfig({ size: { height: 10, width: 20 } }, "f").resize, {
    height: 10,
    width: 20,
  });
  assertEquals(parseCLIPImageProcessorConfig({ size: 10, use_square_size: true }, "f").resize, {
    height: 10,
    width: 10,
  });
  const off = { do_resize: false, do_center_crop: false, do_rescale: false, do_normalize: false };
  assertEquals(parseCLIPImageProcessorConfig(off, "f"), {
    resize: null,
    crop: null,
    rescaleFactor: null,
    normalize: null,
  });
  assertEquals(
    processorOf(off).preprocess({ data: new Uint8Array([1, 2, 3, 4, 5, 6]), width: 2, height: 1 }),
    new Float32Array([1, 4, 2, 5, 3, 6]),
  );
});

Deno.test("configurations of other processors and invalid values are rejected, and the error names the key", () => {
  const refused: [json: Record<string, unknown>, key: string][] = [
    [{ image_processor_type: "ViTImageProcessor" }, "image_processor_type"],
    [{ feature_extractor_type: "DeiTFeatureExtractor" }, "feature_extractor_type"],
    [{ resample: 2 }, "resample"],
    [{ do_resize: "yes" }, "do_resize"],
    [{ do_rescale: false }, "do_rescale"],
    [{ size: 0 }, "size"],
    [{ size: "224" }, "size"],
    [{ size: [224, 224] }, "size"],
    [{ size: { longest_edge: 224 } }, "size"],
    [{ size: { shortest_edge: 224, longest_edge: 512 } }, "size"],
    [{ size: { height: 224 } }, "size"],
    [{ crop_size: { shortest_edge: 224 } }, "crop_size"],
    [{ crop_size: { height: 1.5, width: 2 } }, "crop_size"],
    [{ rescale_factor: 0 }, "rescale_factor"],
    [{ image_mean: [0.5] }, "image_mean"],
    [{ image_std: [1, 0, 1] }, "image_std"],
  ];
  for (const [json, key] of refused) {
    const error = assertThrows(() => parseCLIPImageProcessorConfig(json, "f"), ConfigError, `f as its ${key}`);
    assertEquals(error.key, key);
  }
});

Deno.test("a folder without preprocessor_config.json and pictures with missing bytes are rejected", async () => {
  await assertRejects(
    () => CLIPImageProcessor.fromPretrained(memoryTree({}, "empty")),
    Error,
    "empty/preprocessor_config.json",
  );
  const data = new Uint8Array(11);
  assertThrows(() => processorOf({}).preprocess({ data, width: 2, height: 2 }), ImageError, "12 bytes: 11 were given");
  assertThrows(() => processorOf({}).preprocess({ data, width: 0, height: 2 }), ImageError, "whole numbers from 1 on");
  assertThrows(() => resizeBicubic(picture([2, 2]), { width: 0, height: 2 }), ImageError, "0 × 2");
});
