import type { Tensor } from "../../engine/tensor.ts";
import type { WeightScope } from "../checkpoint/bind.ts";
import { add } from "../../kernels/shape/linear_combination.ts";
import { Linear } from "./linear.ts";

/** The settings of a UNet's timestep embedding. */
export interface TimestepOptions {
  readonly channels: number;
  readonly flipSinToCos: boolean;
  readonly freqShift: number;
}

/**
 * Sinusoids of timesteps (1706.03762 as DDPM uses them): with half = channels / 2 and ωᵢ =
 * 10000^(−i / (half − shift)), [cos ωᵢt…, sin ωᵢt…], or sines first where `flipSinToCos` is false.
 *
 * @returns [timesteps, channels]. Intermediate results are rounded to f32, because torch computes
 *   ωᵢ and ωᵢt in f32.
 */
export function timestepSinusoids(timesteps: readonly number[], options: TimestepOptions): Float32Array<ArrayBuffer> {
  const { channels, flipSinToCos } = options;
  const frequencies = timestepFrequencies(options);
  const half = frequencies.length;
  const rows = new Float32Array(timesteps.length * channels);
  timesteps.forEach((timestep, row) => {
    for (let i = 0; i < half; i++) {
      const angle = Math.fround(timestep * frequencies[i]);
      const [first, second] = flipSinToCos ? [Math.cos(angle), Math.sin(angle)] : [Math.sin(angle), Math.cos(angle)];
      rows[row * channels + i] = first;
      rows[row * channels + half + i] = second;
    }
  });
  return rows;
}

/** The frequencies ωᵢ of {@linkcode timestepSinusoids}: [channels / 2], rounded as torch does. */
export function timestepFrequencies({ channels, freqShift }: TimestepOptions): Float32Array<ArrayBuffer> {
  const half = Math.floor(channels / 2);
  return Float32Array.from({ length: half }, (_, i) => {
    const exponent = Math.fround(Math.fround(Math.fround(-Math.log(10000)) * i) / (half - freqShift));
    return Math.exp(exponent);
  });
}

/** Sinusoids → Linear → SiLU → Linear (diffusers' `TimestepEmbedding`). */
export class TimestepEmbedding {
  /** The first layer. */
  readonly linear1: Linear;
  readonly #linear2: Linear;
  readonly #condition: Linear | undefined;

  /** @param conditionDim width of a condition that is added to the sinusoids. Default: none. */
  constructor(w: WeightScope, inChannels: number, features: number, conditionDim?: number) {
    this.#condition = conditionDim === undefined
      ? undefined
      : new Linear(w.at("cond_proj"), conditionDim, inChannels, { bias: false });
    this.linear1 = new Linear(w.at("linear_1"), inChannels, features);
    this.#linear2 = new Linear(w.at("linear_2"), features, features);
  }

  /** [n, inChannels] and, where there is one, the condition [n, conditionDim] → [n, features] */
  forward(sinusoids: Tensor, condition?: Tensor): Tensor {
    const x = this.#condition && condition ? add(sinusoids, this.#condition.forward(condition)) : sinusoids;
    return this.#linear2.forward(this.linear1.forward(x, { activation: "silu" }));
  }
}
