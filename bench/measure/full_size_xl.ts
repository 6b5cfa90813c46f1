/**
 * Measures a guided step of a full-size SDXL UNet, and what a call takes on the device; then the
 * same step in PyTorch. One after the other: in f32, PyTorch's UNet takes 10 GB.
 *
 * @module
 */
import { Gpu } from "../../engine/gpu.ts";
import { policyOf } from "../../kernels/policy.ts";
import { StableDiffusionXLPipeline } from "../../pipeline/stable_diffusion_xl.ts";
import { openTorchSteps } from "../peers/torch_step.ts";
import type { FullSizeRecord } from "../report/report.ts";
import { type FullSizeOptions, guidedLatents, measureStep, openPeer, prompts, timestep } from "./full_size_step.ts";
import { timeInTurns } from "./timing.ts";

/** What PyTorch needs to repeat the steps. */
interface Conditions {
  readonly ids: readonly (readonly number[])[];
  readonly ids2: readonly (readonly number[])[];
  readonly embeddings: Float32Array<ArrayBuffer>;
  readonly pooled: Float32Array<ArrayBuffer>;
}

/** A measured step, and the noise that it predicts. */
interface MeasuredStep {
  readonly record: FullSizeRecord;
  readonly noise: Float32Array<ArrayBuffer>;
}

/** Measures the model of a folder in diffusers' layout. */
export async function measureFullSizeXL(model: string, options: FullSizeOptions): Promise<void> {
  const { steps, conditions, isSoftware } = await measureOurs(model, options);
  const { python, onRecord } = options;
  using peers = new DisposableStack();
  const opened = python === undefined ? [] : await openPeer(
    "PyTorch",
    options,
    () => openTorchSteps(model, { ...options, ...conditions, python, isSoftware }),
  );
  for (const peer of opened) peers.use(peer);
  for (const { record, noise } of steps) {
    const { pixels } = record;
    const times: Record<string, { ms: number; difference?: number }> = {};
    for (const peer of opened) {
      const work = await peer.prepare({ pixels, timestep, latents: guidedLatents(pixels), timeIds: sizesOf(pixels) });
      const [timing] = await timeInTurns([work], { ...options, isWarm: isSoftware });
      times[peer.name] = { ms: timing.minMs, difference: await peer.difference?.(noise) };
    }
    onRecord({ ...record, ...(opened.length > 0 ? { peers: times } : {}) });
  }
}

async function measureOurs(
  model: string,
  options: FullSizeOptions,
): Promise<{ steps: MeasuredStep[]; conditions: Conditions; isSoftware: boolean }> {
  const { pixels, onRemark } = options;
  using gpu = await Gpu.request();
  const started = performance.now();
  using pipe = await StableDiffusionXLPipeline.fromPretrained(model, { gpu });
  const loadMs = performance.now() - started;
  onRemark(`loaded in ${(loadMs / 1000).toFixed(1)} s`);
  const idsOf = ({ tokenizer }: { tokenizer: typeof pipe.tokenizer }) =>
    prompts.map((text) => tokenizer.encode(text, { padding: "max_length" }));
  const encoded = await pipe.encodePrompt(prompts, { doClassifierFreeGuidance: false });
  using embeddings = encoded.promptEmbeds;
  using pooled = encoded.pooledPromptEmbeds;
  const steps: MeasuredStep[] = [];
  for (const side of pixels) {
    const rows = prompts.map(() => sizesOf(side));
    const { record, noise } = await measureStep(pipe, [], side, {
      ...options,
      context: () => pipe.unet.prepareContext(embeddings, { addedCondKwargs: { textEmbeds: pooled, timeIds: rows } }),
    });
    steps.push({ record: { model: "SDXL", loadMs, ...record }, noise });
  }
  const conditions = {
    ids: idsOf(pipe),
    ids2: idsOf({ tokenizer: pipe.tokenizer2 }),
    embeddings: await embeddings.data(),
    pooled: await pooled.data(),
  };
  return { steps, conditions, isSoftware: policyOf(gpu).isSoftware };
}

/** Original size, crop and target size of an uncropped square picture. */
function sizesOf(pixels: number): number[] {
  return [pixels, pixels, 0, 0, pixels, pixels];
}
