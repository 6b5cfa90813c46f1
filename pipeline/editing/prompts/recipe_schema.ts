/** Schemas of what describes an edit in files: pairs and recipes. @module */

import * as v from "valibot";
import { anyText, boolean, fields, finite, listOf, positive, type Schema, text, whole } from "../../schema.ts";
import type { PositionPair } from "./alignment.ts";
import type { EditPair, EditRecipe, WeightedPrompt } from "./recipe.ts";

/** The most pairs, preserved prompts or augmentations that a file may list. */
const maxPrompts = 100_000;

const position = whole(0, 100_000);
const alignmentSchema: Schema<PositionPair[]> = listOf(
  v.tuple([position, position], "a pair of token positions"),
  { max: maxPrompts },
);
const destinationsSchema: Schema<WeightedPrompt[]> = listOf(
  fields({ prompt: anyText(), weight: v.optional(finite()) }),
  { min: 1, max: 1000 },
);

/** A source prompt with its destination, or with several weighted ones. */
export const editPairSchema: Schema<EditPair> = fields({
  source: text(),
  destination: v.union([text(), destinationsSchema], "a prompt, or a list of prompts with weights"),
  weight: v.optional(positive()),
  alignment: v.optional(alignmentSchema),
});

/** The pairs of an edit. */
export const editPairsSchema: Schema<EditPair[]> = listOf(editPairSchema, { min: 1, max: maxPrompts });

/** All that an edit is made of. */
export const recipeSchema: Schema<EditRecipe> = fields({
  pairs: editPairsSchema,
  preserve: listOf(anyText(), { max: maxPrompts }),
  preserveWeight: positive(),
  lamb: positive(),
  withToK: boolean(),
  withAugs: listOf(anyText(), { max: 1000 }),
  layers: v.nullable(listOf(text(), { max: 1000 })),
});
