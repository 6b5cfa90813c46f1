/** What a dropped file holds. @module */

import { blobSource, readAll } from "../pipeline/checkpoint/source/byte_source.ts";
import { readEdit } from "../pipeline/editing/edit_file.ts";
import { defaultAugmentations } from "../pipeline/editing/prompts/alignment.ts";
import type { EditPair, EditRecipe } from "../pipeline/editing/prompts/recipe.ts";
import { readPictureSettings } from "../pipeline/generation/picture_settings.ts";
import { inspectFile, problemsOf } from "../pipeline/inspection.ts";
import { describeModel, isModel } from "./open_model.ts";
import { methodDefaults } from "./edit_methods.ts";
import { type DroppedContent, type EditSpec, PainterError, type PairSpec } from "./painter.ts";

/** Larger files are no pictures of ours. */
const largestPictureBytes = 2 ** 28;

/**
 * Reads a dropped file: a picture of ours, an edit, a LoRA or a model. Models are read by ranges.
 *
 * @throws {PainterError} for any other file; the message says what it is and what can be dropped
 */
export async function readDropped(file: Blob, name: string): Promise<DroppedContent> {
  const head = new Uint8Array(await file.slice(0, 8).arrayBuffer());
  const isPicture = head[0] === 0x89 && head[1] === 0x50 || head[0] === 0xff && head[1] === 0xd8;
  if (isPicture && file.size <= largestPictureBytes) return await readPicture(file, name);
  // A safetensors file begins with the length of its header and "{".
  if (!/\.(safetensors|ckpt|pt|pth|bin)$/i.test(name) && head[7] !== 0) throw unknown(name, "not one of them");
  const inspection = await inspectFile(blobSource(file, name));
  const { description, notes } = inspection;
  if (description === "an edit of Blue Rose" && problemsOf(inspection).length === 0) {
    const { recipe } = await readEdit(await readAll(blobSource(file, name)));
    return { kind: "edit", edit: { ...specOf(recipe, name), strength: 1, enabled: true } };
  }
  const [problem] = problemsOf(inspection);
  if (problem !== undefined) throw new PainterError({ kind: "input", message: problem }); // says what it is
  if (description === "a LoRA") return { kind: "lora", summary: [description, ...notes].join("; ") };
  if (isModel(inspection)) {
    const { bytes, text } = describeModel(inspection);
    return { kind: "model", summary: text, bytes };
  }
  throw unknown(name, description);
}

async function readPicture(file: Blob, name: string): Promise<DroppedContent> {
  let settings;
  try {
    settings = await readPictureSettings(new Uint8Array(await file.arrayBuffer()));
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new PainterError({ kind: "input", message: `${name}: ${reason}` }, { cause: error });
  }
  const { prompt, negativePrompt, seed, steps, cfgScale, sampler, width, height, clipSkip, exact } = settings;
  const { prompt2, negativePrompt2, ...sizes } = exact.xl ?? {};
  const [unknownSetting] = Object.keys(sizes);
  if (unknownSetting !== undefined) {
    throw new PainterError({
      kind: "input",
      message: `Cannot use ${name}, which was drawn with ${unknownSetting}: the studio has no such setting. ` +
        "bluerose generate --from draws it again",
    });
  }
  return {
    kind: "picture",
    prompt,
    settings: {
      seed: String(seed),
      steps,
      guidance: cfgScale,
      sampler,
      width,
      height,
      negativePrompt,
      clipSkip,
      ...(prompt2 && { prompt2 }),
      ...(negativePrompt2 && { negativePrompt2 }),
    },
    edits: exact.edits.map(({ recipe, strength }) => ({ ...specOf(recipe, name), strength, enabled: true })),
  };
}

/**
 * An edit as the studio keeps it.
 *
 * @throws {PainterError} where the recipe has what the studio does not show
 */
function specOf(recipe: EditRecipe, name: string): Omit<EditSpec, "strength" | "enabled"> {
  const { pairs, preserve, preserveWeight, lamb, withToK, withAugs, layers, withPooled } = recipe;
  const prefixes = recipe.method === undefined ? defaultAugmentations : [];
  const beyond = recipe.method === "time" || recipe.method === "uce" && recipe.tokens !== "last"
    ? "it pairs other tokens than the studio does"
    : recipe.method === "nullspace" && (recipe.retainScale !== 1 || (recipe.invariant ?? []).length > 0)
    ? "it penalizes changes, or keeps prompts whole, in its own way"
    : recipe.method === "nullspace" && (recipe.influenceFilter || (recipe.augment ?? 0) > 0)
    ? "its layers retain prompts of their own (influenceFilter or augment)"
    : layers !== null
    ? "it changes some layers only"
    : preserveWeight !== 1 && preserve.length > 0
    ? `its preserved prompts have the weight ${preserveWeight}`
    : JSON.stringify(withAugs) !== JSON.stringify(prefixes)
    ? "it has prefixes of its own"
    : undefined;
  if (beyond !== undefined) throw beyondStudio(name, beyond);
  const common = {
    pairs: pairs.map((pair) => pairOf(pair, name)),
    lambda: lamb,
    withToK,
    preserve,
    ...(withPooled && { withPooled }),
  };
  switch (recipe.method) {
    case "uce": {
      const { eraseScale, preserveScale } = recipe;
      return { ...common, method: "uce", ...ownSettings({ eraseScale, preserveScale }) };
    }
    case "nullspace":
      return { ...common, method: "nullspace", ...ownSettings({ threshold: recipe.threshold }) };
    default:
      return common;
  }
}

/** Settings that are not the editor's defaults. */
function ownSettings<K extends keyof typeof methodDefaults>(
  settings: Readonly<Record<K, number | undefined>>,
): Partial<Record<K, number>> {
  const entries = Object.entries(settings) as [K, number | undefined][];
  return Object.fromEntries(
    entries.filter(([key, value]) => value !== undefined && value !== methodDefaults[key]),
  ) as Partial<Record<K, number>>;
}

function pairOf({ source, destination, weight = 1, alignment }: EditPair, name: string): PairSpec {
  if (weight !== 1) throw beyondStudio(name, `a pair has the weight ${weight}`);
  if (alignment !== undefined) throw beyondStudio(name, "a pair is aligned by hand");
  if (typeof destination === "string") return { source, destination };
  const [only] = destination;
  if (destination.length === 1 && (only.weight ?? 1) === 1) return { source, destination: only.prompt };
  throw beyondStudio(name, "a pair has several destinations");
}

function beyondStudio(name: string, what: string): PainterError {
  return new PainterError({
    kind: "input",
    message: `Cannot show the edit of ${name} as ${what}: draw with it by bluerose generate --edit`,
  });
}

function unknown(name: string, what: string): PainterError {
  return new PainterError({
    kind: "input",
    message: `Cannot use ${name}: pictures saved here, edits, LoRAs and models can be dropped, and it is ${what}`,
  });
}
