/** Predicts the memory that drawing takes on a device, without the device. */

import { OutOfMemoryError, ShapeError } from "../../engine/errors.ts";
import { Gpu, type GpuInfo, type GpuOptions } from "../../engine/gpu.ts";
import { typicalInfo } from "../../engine/null_device.ts";
import { Tensor } from "../../engine/tensor.ts";
import { checkComponents, checkXLComponents } from "../component_checks.ts";
import type { PipelineComponents, XLPipelineComponents } from "../components.ts";
import { prepareCall, startCall } from "../generation/call.ts";
import { takePrompts } from "../generation/call_prompts.ts";
import { decodeLatents, type DecodingOptions, isTiled } from "../generation/decoding.ts";
import type { DrawingOptions } from "../generation/options.ts";
import { runCall } from "../generation/run.ts";
import { naturalSize } from "../generation/size.ts";
import { xlCallPrompts } from "../generation/xl_call_prompts.ts";
import type { ActivationType } from "../models/unet_blocks.ts";
import { kind, kinds, oneOf, type OptionTable, wholeFrom } from "../options.ts";
import type { LoadOnNull, NullComponents } from "./null_components.ts";

/** What is drawn, and on which device. */
export interface MemoryOptions {
  /** The device: a `Gpu`, or its description. Default: a GPU with the limits that are usual. */
  readonly device?: { readonly info: GpuInfo; readonly options?: GpuOptions };
  /** Pixels. Default: the size that the model was trained on. */
  readonly height?: number;
  /** Pixels. Default: the size that the model was trained on. */
  readonly width?: number;
  /** Pictures that are drawn at once. Default: 1. */
  readonly images?: number;
  /** Denoising steps, which hardly matter. Default: 50, or half of the scheduler's. */
  readonly numInferenceSteps?: number;
  /** Default: "f32". */
  readonly activations?: ActivationType;
  /** Whether large pictures are decoded in tiles. Default: as the model's pipeline does. */
  readonly tiling?: boolean;
}

/** The options of `predictMemory` and their kinds. */
export const memoryOptionsTable: OptionTable<MemoryOptions> = {
  device: kind(
    "a Gpu, or an object with its info",
    (value) => {
      const { limits, features, enables } = (value as { info?: Partial<GpuInfo> } | null)?.info ?? {};
      return kinds.object.accepts(limits) && [features, enables].every((set) => typeof set?.has === "function");
    },
  ),
  height: wholeFrom(8),
  width: wholeFrom(8),
  images: wholeFrom(1),
  numInferenceSteps: wholeFrom(1),
  activations: oneOf("f32", "f16"),
  tiling: kinds.flag,
};

/** The memory that a guided call takes on a device, weights included, in bytes. */
export interface MemoryPrediction {
  /** The name of the device described. */
  readonly device: string;
  /** The largest buffer of the device, in bytes. */
  readonly maxBufferSize: number;
  /** The most that a kernel binds at once, in bytes: larger tensors are computed in parts. */
  readonly maxStorageBufferBindingSize: number;
  /** Pixels. */
  readonly height: number;
  /** Pixels. */
  readonly width: number;
  /** Pictures at once. */
  readonly images: number;
  /** The dtype between the UNet's kernels. */
  readonly activations: ActivationType;
  /** Weights by part, as they are stored on the device. */
  readonly weights: Readonly<Record<string, number>>;
  /** The sum of the weights in bytes. */
  readonly weightsBytes: number;
  /** Tensors beside the weights at most, until the latents are denoised. */
  readonly denoisingBytes: number;
  /** Tensors beside the weights at most, while pictures are decoded as a whole and in tiles. */
  readonly decodingBytes: {
    /** Pictures as a whole; `undefined` where the device's limits do not allow it. */
    readonly whole?: number;
    /** `undefined` where the picture is not larger than a tile, or limits do not allow it. */
    readonly tiled?: number;
  };
  /** Whether the call decodes in tiles. */
  readonly tiled: boolean;
  /** All tensors at most, weights included: `gpu.memory.peak`. */
  readonly peakBytes: number;
  /** With the buffers that are kept for reuse: `gpu.memory.peakReserved`. */
  readonly reservedBytes: number;
  /**
   * Why the call would fail on the device, if it would; the figures are then those of a device
   * without limits.
   */
  readonly problem?: string;
}

/** What a call asks of a device that its limits do not allow. */
class BeyondLimits extends Error {}

/**
 * Predicts the memory of a guided call by running it on a null device of the same description: the
 * weights' headers are read, all work is recorded, and nothing is computed.
 */
export async function predictOnNull(load: LoadOnNull, options: MemoryOptions): Promise<MemoryPrediction> {
  const { info, options: opened } = options.device ?? { info: typicalInfo };
  const { maxBufferSize, maxStorageBufferBindingSize } = info.limits;
  const within = async (limits: Partial<GpuInfo["limits"]>) => {
    using gpu = Gpu.null({ ...info, limits: { ...info.limits, ...limits } }, opened);
    return await takenOn(gpu, load, options);
  };
  const described = { device: info.name, maxBufferSize, maxStorageBufferBindingSize };
  try {
    return { ...described, ...await within({}) };
  } catch (error) {
    if (!(error instanceof BeyondLimits)) throw error;
    const unlimited = await within({ maxBufferSize: Infinity, maxStorageBufferBindingSize: Infinity });
    return { ...described, ...unlimited, problem: error.message };
  }
}

/** What a call takes on a null device. */
async function takenOn(
  gpu: Gpu,
  load: LoadOnNull,
  options: MemoryOptions,
): Promise<Omit<MemoryPrediction, "device" | "maxBufferSize" | "maxStorageBufferBindingSize">> {
  const { activations = "f32", images = 1 } = options;
  const { components, weights } = await withinLimits(() => load(gpu, { activations }));
  if (isXL(components)) checkXLComponents(components);
  else checkComponents(components);
  const natural = naturalSize(components);
  const { height = natural, width = natural } = options;
  const tiling = options.tiling ?? (isXL(components) ? "large" : false);
  const weightsBytes = gpu.memory.live;
  gpu.resetPeak();
  const { num_train_timesteps: trained = 1000 } = components.scheduler.config;
  const { numInferenceSteps = Math.min(50, Math.ceil(trained / 2)) } = options;
  const drawing = { height, width, numImagesPerPrompt: images, numInferenceSteps };
  const denoisingBytes = await drawOnNull(gpu, components, drawing, tiling);
  const { peak: peakBytes, peakReserved: reservedBytes } = gpu.memory;
  const { vae } = components;
  const [h, w] = [height / vae.spatialScale, width / vae.spatialScale];
  const decoding = async (tiling: boolean) => {
    using latents = Tensor.empty(gpu, [images, vae.config.latentChannels, h, w]);
    gpu.resetPeak();
    const attempt = withinLimits(() => decodeLatents(vae, latents, { slicing: false, tiling }));
    const isAllowed = await attempt.then(() => true, (error) => {
      if (error instanceof BeyondLimits) return false;
      throw error;
    });
    return isAllowed ? gpu.memory.peak - weightsBytes : undefined;
  };
  const isTiling = isTiled(vae, { h, w }, tiling), canTile = isTiled(vae, { h, w }, true);
  return {
    ...{ height, width, images, activations, weights, weightsBytes, denoisingBytes },
    decodingBytes: {
      whole: await decoding(false),
      ...(canTile ? { tiled: await decoding(true) } : {}),
    },
    tiled: isTiling,
    ...{ peakBytes, reservedBytes },
  };
}

function isXL(components: NullComponents["components"]): components is XLPipelineComponents {
  return components.unet.config.textTime !== null;
}

/**
 * Draws pictures of an empty prompt, away from an empty one.
 *
 * @returns bytes of tensors until the latents are denoised, at most
 */
async function drawOnNull(
  gpu: Gpu,
  components: PipelineComponents | XLPipelineComponents,
  drawing: DrawingOptions,
  tiling: DecodingOptions["tiling"],
): Promise<number> {
  const before = gpu.memory.live;
  let denoisingBytes = 0;
  const options = { ...drawing, generator: 0, outputType: "array" } as const;
  using call = prepareCall(components, { slicing: false, tiling }, options, {
    takePrompts: (guided, size) =>
      isXL(components)
        ? xlCallPrompts(components, "", options, { guided, zeros: true, size })
        : takePrompts(components, "", options, guided),
    editOf: () => undefined,
  });
  const onDenoised = () => void (denoisingBytes = gpu.memory.peak - before);
  await withinLimits(() => runCall(call, startCall(call), [], { onDenoised }));
  return denoisingBytes;
}

const remedy = "draw smaller or fewer pictures at once, with f16 activations, or decode them in tiles";

/** @throws {BeyondLimits} where the attempt fails by the device's limits */
async function withinLimits<T>(attempt: () => Promise<T>): Promise<T> {
  try {
    return await attempt();
  } catch (error) {
    if (!(error instanceof OutOfMemoryError || error instanceof ShapeError)) throw error;
    throw new BeyondLimits(`${error.message}; ${remedy}`);
  }
}
