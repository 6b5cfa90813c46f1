/** The blocks of the UNet, and the network that they form. */

import type { Tensor } from "../../engine/tensor.ts";
import { activate } from "../../kernels/shape/activate.ts";
import { concat } from "../../kernels/shape/concat.ts";
import { Conv2d } from "../layers/conv2d.ts";
import { GroupNorm } from "../layers/norm.ts";
import { Downsample, ResnetBlock, TimeProjections, Upsample } from "../layers/resnet.ts";
import { TimestepEmbedding } from "../layers/timestep.ts";
import { type ContextOf, Transformer2D } from "../layers/transformer.ts";
import type { Attention } from "../layers/attention.ts";
import type { WeightScope } from "../checkpoint/bind.ts";
import type { UNet2DConditionConfig } from "../checkpoint/diffusers/config/unet.ts";

/** The dtype of the tensors between a network's kernels. Arithmetic is f32 in both cases. */
export type ActivationType = "f32" | "f16";

/**
 * Called with the checkpoint key and the output of each module. The tensor is freed after the
 * forward pass: call `keep()` on it, or read its data.
 */
export type Observer = (path: string, output: Tensor) => void;

/** Residual blocks, each followed by a transformer in CrossAttnDownBlock2D; then downsampling. */
class DownBlock {
  readonly resnets: readonly ResnetBlock[];
  readonly attentions: readonly Transformer2D[];
  readonly #downsample: Downsample | undefined;

  constructor(w: WeightScope, config: UNet2DConditionConfig, index: number, times: TimeProjections) {
    const channels = config.blockOutChannels[index];
    const previous = config.blockOutChannels[Math.max(index - 1, 0)];
    this.resnets = count(config.layersPerBlock, (layer) =>
      new ResnetBlock(w.at("resnets", layer), {
        inChannels: layer === 0 ? previous : channels,
        outChannels: channels,
        groups: config.normNumGroups,
        epsilon: config.normEps,
        times,
      }));
    this.attentions = config.downBlockTypes[index] === "CrossAttnDownBlock2D"
      ? count(config.layersPerBlock, (layer) => transformer(w.at("attentions", layer), config, index))
      : [];
    const isLast = index === config.blockOutChannels.length - 1;
    this.#downsample = isLast ? undefined : new Downsample(w.at("downsamplers", 0), channels, config.downsamplePadding);
  }

  /** Returns the output, and the output of each layer as a skip connection. */
  forward(x: Tensor, time: Tensor, contextOf: ContextOf, observe: Observer): { x: Tensor; skips: Tensor[] } {
    const skips: Tensor[] = [];
    this.resnets.forEach((resnet, layer) => {
      x = observed(observe, `resnets.${layer}`, resnet.forward(x, time));
      if (this.attentions.length > 0) {
        x = observed(observe, `attentions.${layer}`, this.attentions[layer].forward(x, contextOf));
      }
      skips.push(x);
    });
    if (this.#downsample) skips.push(x = this.#downsample.forward(x));
    return { x, skips };
  }
}

/** Residual block, transformer, residual block at the lowest resolution. */
class MidBlock {
  readonly #resnets: readonly ResnetBlock[];
  readonly attention: Transformer2D;

  constructor(w: WeightScope, config: UNet2DConditionConfig, times: TimeProjections) {
    const last = config.blockOutChannels.length - 1;
    const channels = config.blockOutChannels[last];
    this.#resnets = count(2, (layer) =>
      new ResnetBlock(w.at("resnets", layer), {
        inChannels: channels,
        outChannels: channels,
        groups: config.normNumGroups,
        epsilon: config.normEps,
        times,
        outputScale: config.midBlockScaleFactor,
      }));
    this.attention = transformer(w.at("attentions", 0), config, last);
  }

  forward(x: Tensor, time: Tensor, contextOf: ContextOf): Tensor {
    x = this.#resnets[0].forward(x, time);
    x = this.attention.forward(x, contextOf);
    return this.#resnets[1].forward(x, time);
  }
}

/** As {@linkcode DownBlock}, with a skip connection into each layer; then upsampling. */
class UpBlock {
  readonly resnets: readonly ResnetBlock[];
  readonly attentions: readonly Transformer2D[];
  readonly #upsample: Upsample | undefined;

  constructor(w: WeightScope, config: UNet2DConditionConfig, index: number, times: TimeProjections) {
    const widths = [...config.blockOutChannels].reverse();
    const channels = widths[index];
    const previous = widths[Math.max(index - 1, 0)];
    const skipOfLast = widths[Math.min(index + 1, widths.length - 1)];
    const layers = config.layersPerBlock + 1;
    this.resnets = count(layers, (layer) =>
      new ResnetBlock(w.at("resnets", layer), {
        inChannels: (layer === 0 ? previous : channels) + (layer === layers - 1 ? skipOfLast : channels),
        outChannels: channels,
        groups: config.normNumGroups,
        epsilon: config.normEps,
        times,
      }));
    this.attentions = config.upBlockTypes[index] === "CrossAttnUpBlock2D"
      ? count(layers, (layer) => transformer(w.at("attentions", layer), config, widths.length - 1 - index))
      : [];
    this.#upsample = index === widths.length - 1 ? undefined : new Upsample(w.at("upsamplers", 0), channels);
  }

  /** Takes its skip connections from the end of `skips`. */
  forward(x: Tensor, skips: Tensor[], time: Tensor, contextOf: ContextOf, observe: Observer): Tensor {
    this.resnets.forEach((resnet, layer) => {
      x = concat([x, skips.pop()!], 1); // [B, C + skip, H, W]
      x = observed(observe, `resnets.${layer}`, resnet.forward(x, time));
      if (this.attentions.length > 0) {
        x = observed(observe, `attentions.${layer}`, this.attentions[layer].forward(x, contextOf));
      }
    });
    if (!this.#upsample) return x;
    // Upsample to the size of the next skip connection, as an odd side was rounded when halved.
    const [, , height, width] = skips.at(-1)!.dims(4);
    return this.#upsample.forward(x, [height, width]);
  }
}

/** All layers of a UNet. */
export class UNetModules {
  readonly timeEmbedding: TimestepEmbedding;
  /** SDXL's embedding of the pooled prompt and the sizes. */
  readonly addEmbedding: TimestepEmbedding | undefined;
  readonly times: TimeProjections;
  readonly #convIn: Conv2d;
  readonly #down: readonly DownBlock[];
  readonly #mid: MidBlock | undefined;
  readonly #up: readonly UpBlock[];
  readonly #normOut: GroupNorm;
  readonly #convOut: Conv2d;

  constructor(w: WeightScope, config: UNet2DConditionConfig) {
    const [first] = config.blockOutChannels;
    this.times = new TimeProjections(4 * first);
    this.timeEmbedding = new TimestepEmbedding(
      w.at("time_embedding"),
      first,
      this.times.features,
      config.timeCondProjDim ?? undefined,
    );
    this.addEmbedding = config.textTime
      ? new TimestepEmbedding(w.at("add_embedding"), config.textTime.inputDim, this.times.features)
      : undefined;
    this.#convIn = new Conv2d(w.at("conv_in"), config.inChannels, first, { padding: 1 });
    this.#down = config.downBlockTypes.map((_, index) =>
      new DownBlock(w.at("down_blocks", index), config, index, this.times)
    );
    this.#mid = config.midBlockType === null ? undefined : new MidBlock(w.at("mid_block"), config, this.times);
    this.#up = config.upBlockTypes.map((_, index) => new UpBlock(w.at("up_blocks", index), config, index, this.times));
    this.#normOut = new GroupNorm(w.at("conv_norm_out"), first, config.normNumGroups, config.normEps);
    this.#convOut = new Conv2d(w.at("conv_out"), first, config.outChannels, { padding: 1 });
  }

  get crossAttentions(): Attention[] {
    return [
      ...this.#down.flatMap((block) => block.attentions),
      ...(this.#mid ? [this.#mid.attention] : []),
      ...this.#up.flatMap((block) => block.attentions),
    ]
      .flatMap((transformer) => transformer.crossAttentions);
  }

  /** The dtype propagates from conv_in; only conv_out forces f32. */
  forward(
    sample: Tensor,
    time: Tensor,
    contextOf: ContextOf,
    { observe, dtype }: { observe: Observer; dtype: ActivationType },
  ): Tensor {
    let x = observed(observe, "conv_in", this.#convIn.forward(sample, { dtype })); // [B, C, H, W]
    const skips = [x];
    this.#down.forEach((block, index) => {
      const down = block.forward(x, time, contextOf, below(observe, `down_blocks.${index}`));
      x = down.x; // [B, Cᵢ, H / 2^(i+1), W / 2^(i+1)]
      skips.push(...down.skips);
    });
    if (this.#mid) x = observed(observe, "mid_block", this.#mid.forward(x, time, contextOf));
    this.#up.forEach((block, index) => {
      x = block.forward(x, skips, time, contextOf, below(observe, `up_blocks.${index}`));
    });
    x = observed(observe, "conv_norm_out", this.#normOut.forward(x));
    return this.#convOut.forward(activate(x, "silu"), { dtype: "f32" }); // [B, 4, H, W]
  }
}

/**
 * Whether all activations for latents of this size can be stored as f16. Kernels write f16 as vec4,
 * so the number of pixels at every level and the width of each head must be divisible by four.
 */
export function storesF16(config: UNet2DConditionConfig, height: number, width: number): boolean {
  const halved = (side: number) => config.downsamplePadding === 0 ? Math.floor(side / 2) : Math.ceil(side / 2);
  return config.blockOutChannels.every((channels, level) => {
    if (level > 0) [height, width] = [halved(height), halved(width)];
    return height * width % 4 === 0 && channels % (4 * config.attentionHeads[level]) === 0;
  });
}

function transformer(w: WeightScope, config: UNet2DConditionConfig, block: number): Transformer2D {
  return new Transformer2D(w, {
    channels: config.blockOutChannels[block],
    heads: config.attentionHeads[block],
    contextFeatures: config.crossAttentionDim,
    groups: config.normNumGroups,
    layers: config.transformerLayersPerBlock[block],
  });
}

function count<T>(length: number, make: (index: number) => T): T[] {
  return Array.from({ length }, (_, index) => make(index));
}

function observed(observe: Observer, path: string, output: Tensor): Tensor {
  observe(path, output);
  return output;
}

function below(observe: Observer, prefix: string): Observer {
  return (path, output) => observe(`${prefix}.${path}`, output);
}
