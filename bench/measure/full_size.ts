/**
 * Measures a guided step of a full-size UNet, interleaved with PyTorch and stable-diffusion.cpp:
 * time, difference of the results, and memory; then with f16 activations beside f32.
 *
 * @module
 */
import { Gpu } from "../../engine/gpu.ts";
import { policyOf } from "../../kernels/policy.ts";
import { StableDiffusionPipeline } from "../../pipeline/stable_diffusion.ts";
import { openSdCpp } from "../peers/sdcpp.ts";
import type { StepPeer } from "../peers/step_peer.ts";
import { openTorchSteps } from "../peers/torch_step.ts";
import { type FullSizeOptions, measureStep, openPeer, prompts } from "./full_size_step.ts";
import { measureFullSizeXL } from "./full_size_xl.ts";
import { writeFolder, writeSingleFile } from "./random_checkpoint.ts";
import { relativeError } from "../oracles/numbers.ts";

/**
 * Opens a device and measures. Steps that take seconds are timed twice, shorter ones more often.
 */
export async function measureFullSize(options: FullSizeOptions): Promise<void> {
  const { checkpoint, model: shapes, onRemark } = options;
  if (checkpoint !== undefined) {
    return await (await isXL(checkpoint) ? measureFullSizeXL : measureModel)(checkpoint, options);
  }
  const folder = await Deno.makeTempDir({ prefix: "bluerose-full-size-" });
  try {
    const model = `${folder}/random`;
    onRemark(`writing ${shapes === "sdxl" ? 7 : 2} GB of random weights to ${model}`);
    await writeFolder(model, { model: shapes });
    if (shapes === "sdxl") await measureFullSizeXL(model, options);
    else await measureModel(model, { ...options, file: `${folder}/random.safetensors` });
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

async function isXL(folder: string): Promise<boolean> {
  const index = JSON.parse(await Deno.readTextFile(`${folder}/model_index.json`));
  return `${index._class_name}`.includes("XL");
}

async function measureModel(model: string, options: FullSizeOptions & { readonly file?: string }): Promise<void> {
  const { pixels, onRecord, onRemark } = options;
  using gpu = await Gpu.request();
  const started = performance.now();
  using pipe = await StableDiffusionPipeline.fromPretrained(model, { gpu, safetyChecker: null });
  const loadMs = performance.now() - started;
  onRemark(`loaded in ${(loadMs / 1000).toFixed(1)} s`);
  const ids = prompts.map((text) => pipe.tokenizer.encode(text, { padding: "max_length" }));
  using embeddings = gpu.scope(() => pipe.textEncoder.forward(ids).lastHiddenState);
  using peers = new DisposableStack();
  const opened = await openStepPeers(model, {
    ...options,
    isSoftware: policyOf(gpu).isSoftware,
    ids,
    embeddings: await embeddings.data(),
  });
  for (const peer of opened) peers.use(peer);
  const measured = { ...options, context: () => pipe.unet.prepareContext(embeddings) };
  for (const side of pixels) {
    const { record, noise } = await measureStep(pipe, opened, side, measured);
    onRecord({ loadMs, ...record });
    pipe.unet.activations = "f16";
    const { record: half, noise: rounded } = await measureStep(pipe, [], side, measured);
    pipe.unet.activations = "f32";
    const compared = { "activations in f32": { ms: record.ms, difference: relativeError(rounded, noise) } };
    onRecord({ loadMs, ...half, activations: "f16", peers: compared });
  }
}

/** Opens the engines that this machine has; a remark tells why another is missing. */
async function openStepPeers(
  folder: string,
  options: FullSizeOptions & {
    readonly file?: string;
    readonly isSoftware: boolean;
    readonly ids: readonly (readonly number[])[];
    readonly embeddings: Float32Array<ArrayBuffer>;
  },
): Promise<StepPeer[]> {
  const { python, file, isSoftware } = options;
  if (python === undefined) return [];
  const openSdCppHere = async () => {
    if (file === undefined) throw new Error("measured with random weights only, without --checkpoint");
    if (!isSoftware) throw new Error("measured on the CPU only, beside a software device");
    return [await openSdCpp(file, { python, writeFile: () => writeSingleFile(file) })];
  };
  return [
    ...await openPeer("PyTorch", options, () => openTorchSteps(folder, { ...options, python })),
    ...await openPeer("stable-diffusion.cpp", options, openSdCppHere),
  ];
}
