/** What a recipe from a link, a file or the browser's store must look like. @module */

import * as v from "valibot";
import { anyText, fields, finite, listOf, oneOf, type Schema, whole } from "../../pipeline/schema.ts";
import { editSchemaOf } from "../edit_schema.ts";
import type { DrawSettings, EditSpec } from "../painter.ts";
import type { PromptSpec, Recipe } from "./state.ts";

/** The longest prompt that a recipe may hold: far above what a text encoder reads. */
export const maxPrompt = 2000;

/** How many prompts and edits a recipe may hold. */
export const maxPrompts = 60;
export const maxEdits = 20;

/** The largest side of a picture, in pixels. */
export const maxSide = 2048;

/** The largest number of steps. */
export const maxSteps = 150;

function prompt(): Schema<string> {
  return v.pipe(anyText(), v.maxLength(maxPrompt, `a text of at most ${maxPrompt} characters`));
}

function within(min: number, max: number): Schema<number> {
  const needs = `a number from ${min} to ${max}`;
  return v.pipe(finite(), v.minValue(min, needs), v.maxValue(max, needs));
}

const seedNeeds = "a whole number from 0 to 18446744073709551615";

/** A seed in decimal digits. */
export const seedSchema: Schema<string> = v.pipe(
  v.string(seedNeeds),
  v.regex(/^\d{1,20}$/, seedNeeds),
  v.check((digits) => BigInt(digits) < 2n ** 64n, seedNeeds),
);

const editSchema: Schema<EditSpec> = editSchemaOf({
  prompt: prompt(),
  destination: prompt(),
  strength: within(-10, 10),
  maxPairs: 50,
  maxPreserved: 100,
});

const settingsSchema: Schema<DrawSettings> = fields({
  seed: seedSchema,
  steps: whole(1, maxSteps),
  guidance: within(0, 100),
  sampler: v.pipe(anyText(), v.maxLength(60, "the name of a sampler")),
  width: whole(0, maxSide),
  height: whole(0, maxSide),
  negativePrompt: prompt(),
  clipSkip: whole(0, 48),
  prompt2: v.optional(prompt()),
  negativePrompt2: v.optional(prompt()),
});

const promptSchema: Schema<PromptSpec> = fields({ text: prompt(), group: oneOf("source", "related", "unrelated") });

/** A recipe, bounded in all directions. */
export const recipeSchema: Schema<Recipe> = fields({
  edits: listOf(editSchema, { max: maxEdits }),
  prompts: listOf(promptSchema, { max: maxPrompts }),
  settings: settingsSchema,
});
