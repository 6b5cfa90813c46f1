/** The options of an edit in words, for tables and the text of pictures. @module */

import { countText } from "../../../engine/inspect.ts";
import { type MethodOptions, methodSettings, namedOptions } from "./method.ts";

/** What of a recipe is told in words. */
interface ToldRecipe extends MethodOptions {
  readonly withAugs: readonly string[];
  readonly withToK: boolean;
  readonly preserve: readonly string[];
  readonly layers: readonly string[] | null;
  readonly withPooled?: boolean;
}

/** Values of options that `methodSettings` leaves out where they do nothing. */
const offValues: Readonly<Partial<Record<keyof MethodOptions, unknown>>> = {
  influenceFilter: false,
  augment: 0,
  augmentRank: 1,
};

/** What differs from the defaults of a method, but for λ: "erase scale 2", "2 invariant". */
export function optionWords(options: MethodOptions): string[] {
  const defaults: MethodOptions = methodSettings({ method: options.method });
  const { invariant = [] } = options;
  return [
    ...namedOptions.flatMap((option) => {
      const value = options[option];
      if (value === undefined || value === (defaults[option] ?? offValues[option])) return [];
      return [value === true ? words(option) : `${words(option)} ${value}`];
    }),
    ...invariant.length > 0 ? [`${invariant.length} invariant`] : [],
  ];
}

/** What a recipe sets beside its pairs, method and λ: {@linkcode optionWords} and what it edits. */
export function recipeWords(recipe: ToldRecipe): string[] {
  const { withAugs, withToK, preserve, layers, withPooled = false } = recipe;
  const defaults = methodSettings({ method: recipe.method }).withAugs;
  const isUsual = withAugs.length === defaults.length && withAugs.every((text, i) => text === defaults[i]);
  return [
    ...optionWords(recipe),
    ...isUsual ? [] : [countText(withAugs.length, "prefix", "prefixes")],
    ...withToK ? [] : ["values only"],
    ...withPooled ? ["pooled"] : [],
    ...layers === null ? [] : [countText(layers.length, "layer")],
    ...preserve.length === 0 ? [] : [`${preserve.length} preserved`],
  ];
}

function words(option: string): string {
  return option.replace(/[A-Z]/g, (letter) => ` ${letter.toLowerCase()}`);
}
