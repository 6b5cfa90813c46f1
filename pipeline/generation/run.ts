/** Runs a prepared call of `generate`: compiles, encodes, denoises, decodes and checks. */

import { countText, inspectAs } from "../../engine/inspect.ts";
import { compileAhead } from "../../engine/precompile.ts";
import { Tensor } from "../../engine/tensor.ts";
import { advise } from "../advice.ts";
import { NonFiniteError } from "../errors.ts";
import { picturesFromFloats } from "../image/picture.ts";
import { type Key, sameKey } from "../models/keyed_slot.ts";
import type { PromptContext } from "../models/prompt_context.ts";
import { keptWork } from "../models/unet.ts";
import type { Call, Start } from "./call.ts";
import { decodeLatents, rehearseDecoding } from "./decoding.ts";
import { denoise, rehearseDenoising } from "./denoising.ts";
import { FiniteWatch } from "./finite_watch.ts";
import { checkFinite } from "./given_tensor.ts";
import type { GenerateResult, OutputTypes, PictureArray } from "./options.ts";
import { blackenFlagged } from "./safety.ts";

/**
 * Compiles the kernels of a call, unless a call of the same key has done so.
 *
 * @param compiled the keys of the last calls; the call's is added
 */
export async function compileCall(call: Call, compiled: Key[]): Promise<void> {
  const { components, height, width, prompts, images, guided, scheduler, numInferenceSteps, eta, outputType } = call;
  const { unet, vae } = components;
  const { slicing, tiling } = call.decoding;
  const key = [
    ...contextState(call),
    ...[
      height,
      width,
      ...prompts.shapes,
      images,
      guided,
      scheduler,
      numInferenceSteps,
      call.plan.steps.length,
      call.guidanceRescale > 0,
      eta,
    ],
    ...[outputType === "latent", slicing, tiling],
  ];
  if (compiled.some((known) => sameKey(known, key))) return;
  const { gpu } = unet;
  await compileAhead(gpu, () =>
    gpu.scope(() => {
      using context = makeContext(call);
      const started = Tensor.empty(gpu, call.latentShape).keep();
      using latents = call.record(() => rehearseDenoising(started, { ...denoising(call), context }));
      if (outputType !== "latent") rehearseDecoding(vae, latents, call.decoding);
    }));
  compiled.push(key);
  if (compiled.length > 64) compiled.shift();
}

/**
 * Runs a call from its start, which it consumes.
 *
 * @param options.onDenoised called when the latents are denoised, before they are decoded
 */
export async function runCall<T extends keyof OutputTypes>(
  call: Call,
  start: Start,
  compiled: Key[],
  { onDenoised }: { readonly onDenoised?: () => void } = {},
): Promise<GenerateResult<T>> {
  using held = new DisposableStack();
  const first = held.use(start.latents);
  const { components: { unet, vae, safetyChecker, featureExtractor }, outputType, options } = call;
  const { gpu } = unet;
  options.signal?.throwIfAborted();
  if (options.latents instanceof Tensor) await checkFinite("latents", first);
  await call.prompts.check();
  using _loras = await call.prompts.loadLoras(call);
  await compileCall(call, compiled);
  const contextKey = contextKeyOf(call);
  using context = keptWork(unet).context.take(contextKey, () => makeContext(call));
  using watch = new FiniteWatch(
    unet.activations === "f16" ? "activations" : unet.gpu.info.arithmetic === "f16" ? "arithmetic" : undefined,
  );
  const denoised = denoise(first.reshape(first.shape), {
    ...denoising(call),
    context: context.value,
    contextKey,
    generator: start.generator,
    record: call.record,
    isCurrent: call.isCurrent,
    watch,
  });
  held.dispose(); // the loop owns a view of its first sample, and may free it
  using latents = await denoised;
  onDenoised?.();
  if (call.isCurrent()) context.keep();
  const result = (images: unknown, nsfwContentDetected: boolean[] | null) => {
    const made = { images, nsfwContentDetected, seeds: start.seeds } as GenerateResult<T>;
    inspectAs(made, () => describeResult(call, made));
    return made;
  };
  if (outputType === "latent") {
    await watch.finish();
    await gpu.context.check();
    return result(latents.reshape(latents.shape), null); // a second owner, for the caller
  }
  const { values, shape } = await decodeLatents(vae, latents, call.decoding);
  const [, height, width] = shape;
  await watch.finish(); // after the wait for the picture: the device need not wait in between
  refuseNaN(values, vae.gpu.info.arithmetic === "f16");
  const verdicts = safetyChecker
    ? await blackenFlagged(values, { height, width }, { safetyChecker, featureExtractor: featureExtractor! })
    : null;
  if (outputType === "array") return result(withShape(values, shape), verdicts);
  const { toJimp } = await import("../image/jimp_image.ts"); // large, and not needed for arrays
  return result(picturesFromFloats(values, { height, width }).map(toJimp), verdicts);
}

function refuseNaN(values: Float32Array, isHalf: boolean): void {
  if (!values.some(Number.isNaN)) return;
  throw new NonFiniteError(
    "Cannot generate this picture as the autoencoder decodes finite latents to NaN or infinities: " +
      (isHalf ? `they exceed 65504, f16's largest number; ${advise("useF32Arithmetic")}` : "its weights may be broken"),
  );
}

function describeResult(
  { outputType, images, width, height }: Call,
  result: GenerateResult<keyof OutputTypes>,
): string {
  const { nsfwContentDetected: flagged, seeds } = result;
  const what = outputType === "latent"
    ? `latents ${result.images instanceof Tensor ? `[${result.images.shape.join(", ")}]` : ""}`
    : `${countText(images, "picture")} of ${width} × ${height}` +
      (outputType === "array" ? " as an array in 0…1" : "");
  const checked = flagged === null ? "not checked" : `${flagged.filter(Boolean).length} flagged`;
  return `GenerateResult: ${what}, seeds ${seeds.join(", ")}, ${checked}`;
}

/** Adds the shape as a property that enumeration and comparison do not see. */
function withShape(values: Float32Array<ArrayBuffer>, shape: PictureArray["shape"]): PictureArray {
  return Object.defineProperty(values, "shape", { value: Object.freeze([...shape]) }) as PictureArray;
}

/** The part of the denoising options that a call has before it runs. */
function denoising(call: Call) {
  const { components: { unet }, options, scheduler, plan, numInferenceSteps, eta, callbackSteps } = call;
  const { guidanceScale, guidanceRescale } = call;
  const { callback, signal } = options;
  return {
    ...{ unet, scheduler, plan, numInferenceSteps, guidanceScale, guidanceRescale, eta },
    ...{ callback, callbackSteps, signal },
  };
}

/** What both the prompt context and the choice of kernels depend on, beside prompts and shapes. */
function contextState({ stateKey, prompts, loraScale, guided, edit }: Call): Key {
  return [...stateKey, ...prompts.settings, loraScale, guided, "edit", ...edit?.key ?? []];
}

/**
 * What a prompt context depends on; `undefined` for embeddings that were handed in, which have no
 * identity to compare.
 */
function contextKeyOf(call: Call): Key | undefined {
  const { prompts: { identity }, numImagesPerPrompt } = call;
  return identity && [...contextState(call), "prompts", numImagesPerPrompt, ...identity];
}

function makeContext(call: Call): PromptContext {
  const { components: { unet }, prompts, edit, loraScale, numImagesPerPrompt } = call;
  return call.record(() =>
    unet.gpu.scope(() => {
      const { states, added } = prompts.encode({ numImagesPerPrompt, loraScale });
      const addedCondKwargs = added && edit?.applyPooled
        ? { ...added, textEmbeds: edit.applyPooled(added.textEmbeds) }
        : added;
      return unet.prepareContext(edit ? edit.apply(states) : states, { loraScale, addedCondKwargs }).keep();
    })
  );
}
