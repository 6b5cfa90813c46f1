/** What a picture's metadata holds beside A1111's settings, to draw it again to the byte. */

import * as v from "valibot";
import type { PredictionType } from "../checkpoint/ldm/config.ts";
import type { ModelEdit } from "../editing/model_edit.ts";
import type { EditRecipe } from "../editing/prompts/recipe.ts";
import { recipeSchema } from "../editing/prompts/recipe_schema.ts";
import type { EditRoute } from "../editing/operator.ts";
import { anyText, boolean, fields, finite, listOf, oneOf, type Schema, text, whole } from "../schema.ts";
import type { PromptSyntax } from "./tokenized_prompts.ts";
import type { PixelPair, XLSettings } from "./xl_options.ts";

/** An edit of a picture, whole. */
export interface ExactEdit {
  /** The prompts and options that it was solved from. */
  readonly recipe: EditRecipe;
  /** Its strength on the stack. */
  readonly strength: number;
  /** The form in which the system was solved. */
  readonly route: EditRoute;
  /** The arithmetic of the solver. */
  readonly precision: "f64" | "f32";
  /** SHA-256 of its factors, in hexadecimal digits: what is solved again must equal it. */
  readonly sha256: string;
}

/** A LoRA or textual inversion of a picture. */
export interface ExactAdapter {
  /** "prompt lora" is one that the prompt names. */
  readonly kind: "lora" | "prompt lora" | "textual inversion";
  /** The file, as it was given. */
  readonly file: string;
  /** SHA-256 of the file, or of the names and hashes of a folder's files, in hexadecimal digits. */
  readonly sha256?: string;
  /** Weight of a LoRA. */
  readonly weight: number;
}

/** A component that stood in place of the model's. */
export interface ExactComponent {
  /** Which one. */
  readonly name: "vae" | "tokenizer";
  /** Its file, folder or hub id, as it was given. */
  readonly file: string;
  /** SHA-256 of the file, or of the names and hashes of a folder's files. */
  readonly sha256?: string;
}

/** Everything that a picture depends on beside its prompts, seed, size, steps and guidance. */
export interface ExactSettings {
  /** Version of this package. */
  readonly version: string;
  /** The device, by name: others may round differently. */
  readonly device: string;
  /** The sampler's configuration, `_class_name` included. */
  readonly scheduler: Readonly<Record<string, unknown>>;
  /** How the prompts were read. */
  readonly promptSyntax: PromptSyntax;
  /** Folder of the LoRAs that the prompt names. */
  readonly loraDir?: string;
  /** Whether edits acted on the negative prompt. */
  readonly editNegativePrompt: boolean;
  /** Whether large pictures were decoded in tiles. */
  readonly vaeTiling: boolean;
  /** Whether pictures were checked. */
  readonly safetyChecker: boolean;
  /** Variant of the weight files. */
  readonly variant?: string;
  /** Revision of a model of the hub. */
  readonly revision?: string;
  /** Components in place of the model's. */
  readonly components?: readonly ExactComponent[];
  /** What the UNet was said to predict, against its model. */
  readonly predictionType?: PredictionType;
  /** Whether the averaged weights of a training checkpoint were used. */
  readonly ema?: boolean;
  /** What only models of SDXL take. */
  readonly xl?: XLSettings;
  /** The edits, in the order of the stack. */
  readonly edits: readonly ExactEdit[];
  /** The adapters, in the order in which they were loaded. */
  readonly adapters: readonly ExactAdapter[];
}

/** A prompt of any length: what was drawn once can be drawn again. */
export const drawnPrompt: Schema<string> = v.string("a string");

/** The most edits, and the most adapters, of a picture. */
const most = 100_000;

const digest: Schema<string> = v.pipe(
  v.string("a SHA-256 in hexadecimal digits"),
  v.regex(/^[0-9a-f]{64}$/, "a SHA-256 in hexadecimal digits"),
);

const side = whole(-Number.MAX_SAFE_INTEGER, Number.MAX_SAFE_INTEGER);
const pixels: Schema<PixelPair> = v.tuple([side, side], "two whole numbers");

/** The form of {@linkcode ExactSettings} in metadata. */
export const exactSettingsSchema: Schema<ExactSettings> = fields({
  version: text(),
  device: anyText(),
  scheduler: v.record(v.string("a name"), v.unknown(), "an object"),
  promptSyntax: oneOf("plain", "a1111"),
  loraDir: v.optional(anyText()),
  editNegativePrompt: boolean(),
  vaeTiling: boolean(),
  safetyChecker: boolean(),
  variant: v.optional(anyText()),
  revision: v.optional(anyText()),
  components: v.optional(listOf<ExactComponent>(
    fields({ name: oneOf("vae", "tokenizer"), file: text(), sha256: v.optional(digest) }),
    { max: 100 },
  )),
  predictionType: v.optional(oneOf("epsilon", "v_prediction")),
  ema: v.optional(boolean()),
  xl: v.optional(fields({
    prompt2: v.optional(drawnPrompt),
    negativePrompt2: v.optional(drawnPrompt),
    originalSize: v.optional(pixels),
    cropsCoordsTopLeft: v.optional(pixels),
    targetSize: v.optional(pixels),
    negativeOriginalSize: v.optional(pixels),
    negativeCropsCoordsTopLeft: v.optional(pixels),
    negativeTargetSize: v.optional(pixels),
    guidanceRescale: v.optional(finite()),
    denoisingEnd: v.optional(finite()),
  })),
  edits: listOf<ExactEdit>(
    fields({
      recipe: recipeSchema,
      strength: finite(),
      route: oneOf("tokens", "channels"),
      precision: oneOf("f64", "f32"),
      sha256: digest,
    }),
    { max: most },
  ),
  adapters: listOf<ExactAdapter>(
    fields({
      kind: oneOf("lora", "prompt lora", "textual inversion"),
      file: text(),
      sha256: v.optional(digest),
      weight: finite(),
    }),
    { max: most },
  ),
});

/** The active edits of a pipeline, or of those that are given, whole. */
export async function exactEdits(
  { edits }: { readonly edits: Iterable<{ enabled: boolean; strength: number; edit: ModelEdit }> },
): Promise<ExactEdit[]> {
  const active = [...edits].filter(({ enabled, strength }) => enabled && strength !== 0);
  return await Promise.all(active.map(async ({ edit, strength }): Promise<ExactEdit> => ({
    recipe: edit.recipe,
    strength,
    route: edit.report.route,
    precision: edit.report.precision === "f64" ? "f64" : "f32",
    sha256: await editDigest(edit),
  })));
}

/**
 * SHA-256 of the factors of an edit's operators, then of the pooled embedding's, in hexadecimal
 * digits.
 */
export async function editDigest({ operators, pooledOperator }: ModelEdit): Promise<string> {
  const all = [...operators.map(({ operator }) => operator), ...(pooledOperator ? [pooledOperator] : [])];
  const factors = all.flatMap(({ factors: { left, right } }) => right ? [left, right] : [left]);
  const values = await Promise.all(factors.map((tensor) => tensor.data()));
  return await sha256(new Uint8Array(await new Blob(values).arrayBuffer()));
}

/** SHA-256 of bytes, in hexadecimal digits. */
export async function sha256(bytes: Uint8Array<ArrayBuffer>): Promise<string> {
  const digits = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  return Array.from(digits, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
