/** Reads back what a picture was drawn with. */

import * as v from "valibot";
import { readAll } from "../checkpoint/source/byte_source.ts";
import { fileSource } from "../checkpoint/source/disk.ts";
import { DataError } from "../errors.ts";
import type { AnyGenerateOptions } from "../editing_pipeline.ts";
import { readPictureText } from "../image/picture_text.ts";
import type { FromPretrainedOptions } from "../load.ts";
import { givenOptions } from "../options.ts";
import { fields, finite, oneOf, type Schema, text, validateJson, whole } from "../schema.ts";
import { drawnPrompt, type ExactSettings, exactSettingsSchema } from "./exact_settings.ts";
import { contentOfSheet } from "./sheet_content.ts";

/** The settings of one picture. */
export interface PictureSettings {
  /** The prompt. */
  readonly prompt: string;
  /** The negative prompt. */
  readonly negativePrompt: string;
  /** The seed, from 0 to 2⁶⁴ − 1. */
  readonly seed: bigint;
  /** Denoising steps. */
  readonly steps: number;
  /** Scale of classifier-free guidance. */
  readonly cfgScale: number;
  /** The sampler's name or class. */
  readonly sampler: string;
  /** Width in pixels. */
  readonly width: number;
  /** Height in pixels. */
  readonly height: number;
  /** Layers of the text encoder that were left out, as diffusers counts. */
  readonly clipSkip: number;
  /** The model's folder, file or hub id. */
  readonly model: string;
  /** The first ten digits of the SHA-256 of the model's file, where it was known. */
  readonly modelHash?: string;
  /** How the UNet's activations were stored. */
  readonly activations: "f32" | "f16";
  /** The arithmetic of the UNet and the VAE. */
  readonly arithmetic: "f32" | "f16";
  /** Everything else that the picture depends on. */
  readonly exact: ExactSettings;
}

/** Settings with the options of `generate` that they stand for. */
export interface ReadPictureSettings extends PictureSettings {
  /**
   * For `openPipeline(model, loading)`: what stood in place of the model's own.
   */
  readonly loading:
    & Pick<FromPretrainedOptions, "variant" | "revision" | "predictionType" | "activations" | "arithmetic">
    & {
      readonly vae?: string;
      readonly tokenizer?: string;
      readonly ema?: boolean;
      readonly safetyChecker?: null;
    };
  /**
   * For `pipe.generate(prompt, options)`, once model, adapters, sampler and edits are those of
   * `exact`.
   */
  readonly options: AnyGenerateOptions;
}

const seedSchema: Schema<bigint> = v.pipe(
  v.union(
    [v.pipe(v.number(), v.safeInteger()), v.pipe(v.string(), v.regex(/^\d{1,20}$/))],
    "a seed from 0 to 2^64 - 1",
  ),
  v.transform((seed) => BigInt(seed)),
  v.check((seed) => seed >= 0n && seed < 2n ** 64n, "a seed from 0 to 2^64 - 1"),
);

const schema: Schema<PictureSettings> = fields({
  prompt: drawnPrompt,
  negativePrompt: drawnPrompt,
  seed: seedSchema,
  steps: whole(1, 100_000),
  cfgScale: finite(),
  sampler: text(),
  width: whole(1, 65_536),
  height: whole(1, 65_536),
  clipSkip: whole(0, 1000),
  model: text(),
  modelHash: v.optional(text()),
  activations: v.optional(oneOf("f32", "f16"), "f32"),
  arithmetic: v.optional(oneOf("f32", "f16"), "f32"),
  exact: exactSettingsSchema,
});

/** Larger files are not read: no picture that we write is so large. */
const largestBytes = 2 ** 28;

/**
 * The settings that a picture was drawn with, from its PNG text or JPEG comments.
 *
 * ```ts
 * const { prompt, model, loading, exact, options } = await readPictureSettings("roses.png");
 * using pipe = await openPipeline(model, loading);
 * pipe.scheduler = schedulerFromConfig(exact.scheduler);
 * for (const { recipe, strength } of exact.edits) {
 *   const { pairs, layers, ...how } = recipe;
 *   const edit = await ModelEdit.solve(pairs, { ...how, layers: layers ?? undefined }, pipe);
 *   pipe.edits.push(edit, { strength });
 * }
 * const { images } = await pipe.generate(prompt, options);
 * ```
 *
 * @param source a path (Deno only), or the bytes of a PNG or JPEG file
 * @throws {DataError} when the picture holds no settings of ours, they are not whole, or it is a
 *   grid or a sheet of several pictures; {ImageError} when it is no PNG or JPEG file
 */
export async function readPictureSettings(source: string | Uint8Array): Promise<ReadPictureSettings> {
  const name = typeof source === "string" ? source : "the picture";
  const refuse = (reason: string) => new DataError(`Cannot read the settings of ${name}: ${reason}`, { source: name });
  const { bluerose, parameters } = await readPictureText(typeof source === "string" ? await bytesOf(source) : source);
  if (bluerose === undefined) {
    throw refuse(
      parameters === undefined
        ? "it holds none; other programs may have removed them"
        : "it holds those of another program, which do not tell everything that drew it",
    );
  }
  const parsed = parsedObject(bluerose);
  const several = parsed && contentOfSheet(parsed);
  if (several !== undefined) throw refuse(several);
  if (parsed && !Object.hasOwn(parsed, "exact")) {
    throw refuse("they do not tell everything that drew it: an older version wrote it");
  }
  const settings = validateJson(schema, bluerose, refuse);
  return { ...settings, loading: loadingOf(settings), options: optionsOf(settings) };
}

function loadingOf({ activations, arithmetic, exact }: PictureSettings): ReadPictureSettings["loading"] {
  const { variant, revision, predictionType, ema, safetyChecker, components = [] } = exact;
  return {
    ...Object.fromEntries(components.map(({ name, file }) => [name, file])),
    ...(variant === undefined ? {} : { variant }),
    ...(revision === undefined ? {} : { revision }),
    ...(predictionType === undefined ? {} : { predictionType }),
    ...(ema === undefined ? {} : { ema }),
    ...(activations === "f32" ? {} : { activations }),
    ...(arithmetic === "f32" ? {} : { arithmetic }),
    ...(safetyChecker ? {} : { safetyChecker: null }),
  };
}

function optionsOf(settings: PictureSettings): AnyGenerateOptions {
  const { negativePrompt, steps, cfgScale, seed, width, height, clipSkip, exact } = settings;
  const { promptSyntax, loraDir, editNegativePrompt, xl } = exact;
  return givenOptions<AnyGenerateOptions>({
    ...xl,
    negativePrompt: negativePrompt || undefined,
    numInferenceSteps: steps,
    guidanceScale: cfgScale,
    generator: seed,
    width,
    height,
    clipSkip,
    promptSyntax: promptSyntax === "plain" ? undefined : promptSyntax,
    loraDir,
    editNegativePrompt,
  });
}

/** JSON that is an object, others as an object without fields; `undefined` for what is no JSON. */
function parsedObject(json: string): object | undefined {
  try {
    const value: unknown = JSON.parse(json);
    return typeof value === "object" && value !== null ? value : {};
  } catch {
    return undefined; // the schema says so
  }
}

async function bytesOf(path: string): Promise<Uint8Array> {
  const source = await fileSource(path);
  try {
    if (source.size > largestBytes) {
      throw new DataError(`Cannot read the settings of ${path} as it has ${source.size} bytes: it is no picture`, {
        source: path,
      });
    }
    return await readAll(source);
  } finally {
    source.close?.();
  }
}
