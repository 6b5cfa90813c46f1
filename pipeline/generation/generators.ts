/** Sources of noise: generators, and seeds in their place. */

import { countText } from "../../engine/inspect.ts";
import { TorchGenerator } from "../../schedulers/mod.ts";
import { OptionError } from "../errors.ts";
import { either, kind, listOf, type OptionKind, shown } from "../options.ts";

/** A seed: a whole number up to 2⁶⁴ − 1, or −1 for a random one. Beyond 2⁵³ it is a bigint. */
export type Seed = number | bigint;

/** What `generator` accepts for one source of noise. */
export type NoiseSource = TorchGenerator | Seed;

/** Sources of noise, one for all pictures or one for each. */
export type Generators = TorchGenerator | readonly TorchGenerator[];

const source: OptionKind = kind(
  "a TorchGenerator or a seed (a whole number from -1 to 2^64 - 1, as a bigint beyond 2^53)",
  (value) => value instanceof TorchGenerator || isSeed(value),
);

/** The kind of the option `generator`. */
export const generatorKind: OptionKind = either(source, listOf(source, "them"));

function isSeed(value: unknown): value is Seed {
  if (typeof value === "number") return Number.isSafeInteger(value) && value >= -1;
  return typeof value === "bigint" && value >= -1n && value < 2n ** 64n;
}

/** A seed's generator; −1 draws a random seed of 32 bits, which the generator names. */
function generatorOf(value: NoiseSource): TorchGenerator {
  if (value instanceof TorchGenerator) return value;
  if (!isSeed(value)) {
    throw new OptionError(`Cannot generate as generator must be ${source.requirement}: ${shown(value)}`, {
      option: "generator",
      value,
    });
  }
  return BigInt(value) === -1n ? new TorchGenerator() : new TorchGenerator(value);
}

/**
 * Takes sources of noise for one call.
 *
 * A call draws from clones, and the caller's generators are advanced at once past all that the call
 * will draw. Calls that overlap thus draw the same noise as calls one after the other.
 *
 * @param draws number of draws of the latents' size that the call makes
 * @returns clones, and the seed of each image
 * @throws {OptionError} when the number of generators is not that of the images
 */
export function takeGenerators(
  given: NoiseSource | readonly NoiseSource[] | undefined,
  shape: readonly number[],
  draws: number,
): { generator: Generators; seeds: Seed[] } {
  const [images] = shape;
  const values = shape.reduce((product, length) => product * length, 1);
  const take = (value: NoiseSource, size: number) => {
    const generator = generatorOf(value);
    const own = generator.clone();
    for (let draw = 0; draw < draws; draw++) generator.skip(size);
    return own;
  };
  if (!Array.isArray(given)) {
    const generator = take((given ?? -1) as NoiseSource, values);
    return { generator, seeds: Array<Seed>(images).fill(generator.seed) };
  }
  if (given.length !== images) {
    throw new OptionError(
      `Cannot generate ${countText(images, "image")} with ${
        countText(given.length, "generator")
      }: give one, or one for each image`,
      { option: "generator", value: given },
    );
  }
  const generator = given.map((value) => take(value, values / images));
  return { generator, seeds: generator.map(({ seed }) => seed) };
}

/**
 * Standard normal noise [B, …], from one generator for all images or one for each, as in diffusers.
 */
export function drawNoise(
  shape: readonly number[],
  generator: Generators,
): Float32Array<ArrayBuffer> {
  if (!(generator instanceof Array)) return new Float32Array((generator as TorchGenerator).randn(shape));
  return Float32Array.from(generator.flatMap((single) => [...single.randn([1, ...shape.slice(1)])]));
}
