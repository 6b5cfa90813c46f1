/** Schemas of what describes an edit in files: pairs and recipes. @module */

import * as v from "valibot";
import {
  anyText,
  boolean,
  fields,
  finite,
  fromZero,
  listOf,
  oneOf,
  positive,
  type Schema,
  text,
  validate,
  whole,
} from "../../schema.ts";
import { EditError } from "../../errors.ts";
import type { PositionPair } from "./alignment.ts";
import { type EditMethod, editMethods } from "./method.ts";
import type { EditPair, EditRecipe, WeightedPrompt } from "./recipe.ts";

/** The most pairs, preserved prompts or augmentations that a file may list. */
export const maxPrompts = 100_000;

const position = whole(0, 100_000);
const alignmentSchema: Schema<PositionPair[]> = listOf(
  v.tuple([position, position], "a pair of token positions"),
  { max: maxPrompts },
);
const destinationsSchema: Schema<WeightedPrompt[]> = listOf(
  fields({ prompt: anyText(), weight: v.optional(finite()) }),
  { min: 1, max: 1000 },
);

/** A pair whose prompts are of the given kinds. */
const pairSchema = (destination: Schema<string>, source: Schema<string> = text()): Schema<EditPair> =>
  fields({
    source,
    destination: v.union([destination, destinationsSchema], "a prompt, or a list of prompts with weights"),
    weight: v.optional(positive()),
    alignment: v.optional(alignmentSchema),
  });

/** A source prompt with its destination, or with several weighted ones. */
export const editPairSchema: Schema<EditPair> = pairSchema(text());

/** The pairs of an edit. */
export const editPairsSchema: Schema<EditPair[]> = listOf(editPairSchema, { min: 1, max: maxPrompts });

/** The pairs of an edit by last tokens, where the destination "" erases. */
export const conceptPairsSchema: Schema<EditPair[]> = listOf(pairSchema(anyText()), { min: 1, max: maxPrompts });

/** The pairs of a recipe. An edit can be of the empty prompt, and to it. */
const recipePairs: Schema<EditPair[]> = listOf(pairSchema(anyText(), anyText()), { min: 1, max: maxPrompts });

/**
 * What all editors have. Parsed recipes are written again, into pictures and edit files, so the
 * order of keys is that of `prepareEdit`.
 */
const common = (lamb: Schema<number>) => ({
  pairs: recipePairs,
  preserve: listOf(anyText(), { max: maxPrompts }),
  preserveWeight: positive(),
  lamb,
  withToK: boolean(),
  withAugs: listOf(anyText(), { max: 1000 }),
  layers: v.nullable(listOf(text(), { max: 1000 })),
  withPooled: v.optional(boolean()),
});

const timeRecipe: Schema<EditRecipe> = fields(common(positive()));

const methodRecipes: Readonly<Record<EditMethod, Schema<EditRecipe>>> = {
  time: fields({
    ...common(positive()),
    method: oneOf("time"),
    tokens: oneOf("all", "last"),
  }),
  uce: fields({
    ...common(positive()),
    method: oneOf("uce"),
    tokens: oneOf("all", "last"),
    eraseScale: positive(),
    preserveScale: positive(),
  }),
  nullspace: fields({
    ...common(fromZero()),
    method: oneOf("nullspace"),
    tokens: oneOf("last"),
    threshold: positive(),
    retainScale: positive(),
    invariant: listOf(anyText(), { max: maxPrompts }),
    influenceFilter: v.optional(boolean()),
    augment: v.optional(whole(0, maxPrompts)),
    augmentRank: v.optional(whole(1, maxPrompts)),
  }),
};

/**
 * All that an edit is made of. Recipes without a method are TIME's, as all were before there were
 * other editors; the others are checked for the settings of their method.
 */
export const recipeSchema: Schema<EditRecipe> = v.lazy((recipe) => {
  const method = typeof recipe === "object" && recipe !== null && "method" in recipe ? recipe.method : undefined;
  if (method === undefined) return timeRecipe;
  return typeof method === "string" && Object.hasOwn(methodRecipes, method)
    ? methodRecipes[method as EditMethod]
    : unknownMethod;
});

/**
 * Checks that files can hold a recipe: what reads an edit or a picture refuses others.
 *
 * @throws {EditError} with the place of what is too long or out of range
 */
export function checkRecipe(recipe: EditRecipe): void {
  validate(recipeSchema, recipe, (reason) => new EditError(`Cannot edit by what no edit file could hold: ${reason}`));
}

const unknownMethod: Schema<EditRecipe> = fields({
  ...common(fromZero()),
  method: oneOf(...editMethods),
});
