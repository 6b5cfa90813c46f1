import { assert, assertEquals, assertRejects } from "@std/assert";
import { hollowCheckpoint } from "../../../bench/measure/hollow_checkpoint.ts";
import { Gpu } from "../../../engine/gpu.ts";
import { OptionError } from "../../../pipeline/errors.ts";
import { inspectFile, inspectFolder, predictMemory } from "../../../pipeline/inspection.ts";
import { directoryTree } from "../../../pipeline/checkpoint/source/disk.ts";
import { type FileTree, memoryTree } from "../../../pipeline/checkpoint/source/file_tree.ts";
import { openPipeline } from "../../../pipeline/open_pipeline.ts";
import { gpuTest } from "../../gpu.ts";
import { goldens, pocket } from "../../paths.ts";
import { fileOf, ldmEntries, miniConfig } from "../checkpoint/ldm/ldm_files.ts";

/**
 * The norms of up to eight samples wait for the host at once, and as many are read: how many there
 * are depends on time. Each takes 256 bytes.
 */
const normBytes = 2 * 9 * 256;

gpuTest("the memory predicted is what drawing takes, in weights, tensors and buffers", async (gpu) => {
  for (
    const [model, asked] of [
      [`${goldens}/sd1-mini`, { height: 32, width: 48, images: 2 }],
      [`${goldens}/sdxl-mini`, { height: 48, width: 32, tiling: true }],
      [pocket, { activations: "f16" }],
    ] as const
  ) {
    gpu.trim();
    const before = gpu.memory.live;
    const { tiling, ...size } = { tiling: false, ...asked };
    const drawing = { numInferenceSteps: 2, ...size };
    const predicted = await predictMemory(model, { device: gpu, tiling, ...drawing });
    const { activations, images, ...options } = { activations: undefined, images: 1, ...drawing };
    using pipe = await openPipeline(model, { gpu, activations, safetyChecker: null });
    assertEquals(gpu.memory.live - before, predicted.weightsBytes, model);
    if (tiling) pipe.enableVaeTiling();
    gpu.resetPeak();
    await pipe.generate("a rose", { ...options, numImagesPerPrompt: images, outputType: "array" });
    const { peak, peakReserved } = gpu.memory;
    const { peakBytes, reservedBytes, weightsBytes, denoisingBytes, decodingBytes: { whole = 0, tiled = whole } } =
      predicted;
    for (const [taken, said] of [[peak - before, peakBytes], [peakReserved - before, reservedBytes]]) {
      assert(Math.abs(taken - said) <= normBytes, `${model}: ${said} bytes predicted, ${taken} taken`);
    }
    const most = weightsBytes + Math.max(denoisingBytes, tiling ? tiled : whole);
    assert(Math.abs(peakBytes - most) <= normBytes, `${peakBytes}, not ${most}`);
  }
});

Deno.test("a guided step of SDXL at 1024² takes less than 3 GB beside its weights", async () => {
  const sdxl = await hollowCheckpoint("sdxl");
  const f32 = await predictMemory(sdxl), f16 = await predictMemory(sdxl, { activations: "f16" });
  assertEquals([f32.height, f32.width, f32.problem, f16.problem], [1024, 1024, undefined, undefined]);
  assert(f32.denoisingBytes <= 3e9, `${f32.denoisingBytes}`);
  assert(f16.denoisingBytes < 0.6 * f32.denoisingBytes, `${f16.denoisingBytes}, not half of ${f32.denoisingBytes}`);
  // 3.5·10⁹ parameters in f16, less than 1 % of padding.
  const parameters = 2_567_463_684 + 123_060_480 + 694_659_840 + 83_653_863;
  assert(f32.weightsBytes >= 2 * parameters && f32.weightsBytes < 2.02 * parameters, `${f32.weightsBytes}`);
});

Deno.test("a prediction says what a device of small limits cannot do, and decoding in tiles takes less", async () => {
  const sd = await hollowCheckpoint();
  const whole = await predictMemory(sd, { height: 1024, width: 1024, activations: "f16" });
  const tiled = await predictMemory(sd, { height: 1024, width: 1024, activations: "f16", tiling: true });
  assertEquals([whole.tiled, tiled.tiled], [false, true]);
  assertEquals(whole.decodingBytes, tiled.decodingBytes);
  assert(tiled.peakBytes < whole.peakBytes, `${tiled.peakBytes}, not less than ${whole.peakBytes}`);
  using typical = Gpu.null();
  using small = Gpu.null({ ...typical.info, limits: { ...typical.info.limits, maxBufferSize: 2 ** 25 } });
  const { problem, peakBytes } = await predictMemory(sd, { height: 512, width: 512, device: small });
  assert(/^Cannot create a buffer of \d+ bytes: this device's largest is 33554432; draw/.test(problem ?? ""), problem);
  assert(peakBytes > 2 ** 31, `${peakBytes}`); // all the same
  // Where pictures are decoded in tiles, those that are too large as a whole are drawn.
  const limits = { ...typical.info.limits, maxBufferSize: 2 ** 28, maxStorageBufferBindingSize: 2 ** 27 };
  const browser = { info: { ...typical.info, limits } };
  const large = await predictMemory(sd, { height: 1024, width: 1024, device: browser, tiling: true });
  assertEquals([large.problem, large.decodingBytes.whole], [undefined, undefined]);
});

Deno.test("inspections predict the memory of models that would load, when asked", async () => {
  const folder = await inspectFolder(await directoryTree(`${goldens}/sd1-mini`), { memory: { height: 64, width: 64 } });
  const single = await inspectFile(await fileOf(await ldmEntries("sd1-mini")), {
    config: miniConfig["sd1-mini"],
    memory: { height: 64, width: 64 },
  });
  assertEquals(single.memory?.peakBytes, folder.memory?.peakBytes);
  assertEquals(Object.keys(folder.memory!.weights).sort(), ["text_encoder", "unet", "vae"]);
  let isCalled = false;
  const memory = () => {
    isCalled = true;
    return Promise.resolve({});
  };
  const broken = await inspectFile(await fileOf((await ldmEntries("sd1-mini")).slice(1)), { memory });
  assertEquals([broken.memory, isCalled], [undefined, false]);
  await assertRejects(() => predictMemory(pocket, { size: 64 } as never), OptionError, "size");
});

Deno.test("a prediction takes as many steps as the scheduler has, and refuses what is no model", async () => {
  const short = await changedModel("sd1-mini", "scheduler/scheduler_config.json", { num_train_timesteps: 10 });
  const { problems, memory } = await inspectFolder(short, { memory: { height: 32, width: 32 } });
  assertEquals(problems, []);
  assert(memory!.denoisingBytes > 0);
  for (const source of [42, null, undefined, {}]) {
    await assertRejects(() => predictMemory(source as never), OptionError, "a source must be");
  }
  await assertRejects(() => predictMemory(pocket, { device: { info: {} } as never }), OptionError, "device must be");
});

Deno.test("a prediction finds components that load and do not fit each other", async () => {
  // No weight's shape depends on it alone.
  const misfit = await changedModel("sdxl-mini", "unet/config.json", { addition_time_embed_dim: 10 });
  const { problems, memory } = await inspectFolder(misfit, { memory: { height: 32, width: 32 } });
  assertEquals([problems.length, memory], [1, undefined]);
  assert(problems[0].includes("projection_class_embeddings_input_dim"), problems[0]);
});

/** A golden model with some values of one configuration changed. */
async function changedModel(model: string, changed: string, values: Record<string, unknown>): Promise<FileTree> {
  const files: Record<string, Uint8Array<ArrayBuffer>> = {};
  const folders = [
    "",
    ...(await directoryTree(`${goldens}/${model}`).then((tree) => tree.list())).filter((name) => name.endsWith("/")),
  ];
  for (const folder of folders) {
    for await (const { name, isFile } of Deno.readDir(`${goldens}/${model}/${folder}`)) {
      if (isFile) files[folder + name] = await Deno.readFile(`${goldens}/${model}/${folder}${name}`);
    }
  }
  const config = JSON.parse(new TextDecoder().decode(files[changed]));
  files[changed] = new TextEncoder().encode(JSON.stringify({ ...config, ...values }));
  return memoryTree(files, `changed ${model}`);
}
