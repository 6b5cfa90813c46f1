/** From pairs and options to an edit's equations, for each editor. @module */

import { EditError } from "../errors.ts";
import {
  chosenLayers,
  type CrossAttentionLayer,
  type EditableModel,
  encodeOnHost,
  type LayerChoice,
  pooledEncoder,
} from "./editable_model.ts";
import { breathe } from "./breathe.ts";
import { encodeConcepts } from "./encode_concepts.ts";
import type { Concept } from "./moves.ts";
import { endTokenEmbedding, probeText } from "./probe.ts";
import type { Alignment } from "./prompts/alignment.ts";
import { lastTokenPosition } from "./prompts/concepts.ts";
import { checkRecipe } from "./prompts/recipe_schema.ts";
import { withoutErased } from "./prompts/retained.ts";
import { checkPooled, type MethodOptions, type MethodSettings, methodSettings } from "./prompts/method.ts";
import {
  alignedSentences,
  allTokens,
  type EditPair,
  type EditRecipe,
  type HostRows,
  rowsOf,
  type Sentence,
  type TokenStates,
} from "./prompts/recipe.ts";
import { EditSystem, type EditSystemOptions } from "./solve/edit_system.ts";
import { type HostMatrix, hostMatrix } from "./solve/host_matrix.ts";
import { type InfluenceOptions, type InfluentialConcepts, influentialConcepts } from "./solve/influence.ts";
import { type NullSpaceReport, NullSpaceSystem } from "./solve/null_space.ts";
import { UceSystem } from "./solve/uce_system.ts";
import type { EditOperator } from "./operator.ts";

/** Options of {@linkcode prepareEdit}. */
export interface PrepareOptions extends EditSystemOptions, MethodOptions {
  readonly preserve?: readonly string[];
  readonly withToK?: boolean;
  readonly withPooled?: boolean;
  readonly layers?: LayerChoice;
  readonly signal?: AbortSignal;
}

/** Equations that can be solved for any λ. */
export interface SolvableSystem extends Disposable {
  solve(options: { lamb: number; signal?: AbortSignal }): Promise<EditOperator>;
}

/** What a null-space edit leaves free, and which prompts it could not retain. */
export interface RetainedReport extends NullSpaceReport {
  /** Prompts of `preserve` that were left out, because they contain an erased concept's words. */
  readonly leftOut: readonly string[];
  /** Prompts that are retained in this layer; absent where the filter by influence is not used. */
  readonly influential?: readonly string[];
  /** Number of perturbed states that are retained in this layer; absent without augmentation. */
  readonly augmented?: number;
}

/** The equations of some layers. */
export interface LayerSystem {
  /** Paths of the layers. */
  readonly layers: readonly string[];
  readonly system: SolvableSystem;
  readonly nullSpace?: RetainedReport;
}

/** An edit that is ready to be solved. */
export interface PreparedEdit {
  readonly recipe: EditRecipe;
  /**
   * One for all layers; or several, where layers differ in what they retain. The caller disposes of
   * them.
   */
  readonly systems: readonly LayerSystem[];
  /** The equations of the pooled embedding, of edits `withPooled`; the caller disposes of them. */
  readonly pooled?: SolvableSystem;
  readonly alignments: readonly Alignment[];
  /** Paths of the edited layers. */
  readonly layers: readonly string[];
  /** The embedding that identifies the text encoder. */
  readonly probe: Float32Array;
  readonly concepts: { readonly erased: readonly Concept[]; readonly retained: readonly Concept[] };
}

/**
 * Aligns and encodes the prompts, and sets up the equations.
 *
 * @param pairs not changed meanwhile; the recipe keeps them
 * @throws as `ModelEdit.solve` does, except for what depends on λ
 */
export async function prepareEdit(
  pairs: readonly EditPair[],
  options: PrepareOptions,
  model: EditableModel,
): Promise<PreparedEdit> {
  const settings = methodSettings(options);
  const { withToK = true, withPooled = false, signal } = options;
  const encodePooled = withPooled ? pooledEncoder(model) : undefined;
  if (withPooled) checkPooled(options);
  const given = [...options.preserve ?? []];
  const choice = Array.isArray(options.layers) ? [...options.layers] : options.layers;
  const sentences = alignedSentences(pairs, settings.withAugs, model.tokenizer, settings.tokens);
  checkRecipe(recipeOf({ pairs, preserve: given, withToK, layers: null, withPooled }, settings));
  const alignments = sentences.flatMap(({ destinations }) => destinations.map(({ alignment }) => alignment));
  const { kept: preserve, leftOut } = settings.method === "nullspace"
    ? retainable(given, pairs)
    : { kept: given, leftOut: [] };
  const invariant = settings.method === "nullspace" ? ["", ...settings.invariant] : [];
  const texts = [...alignments.flatMap(({ source, destination }) => [source, destination]), ...preserve];
  const [{ states, whole, width }, pooled] = await allEnded([
    encoded(texts, { invariant, tokens: settings.tokens, signal }, model),
    encodePooled && encodeOnHost(encodePooled, [...texts, ...invariant], { signal }),
  ]);
  const layers = chosenLayers(model, width, choice);
  const paths = layers.map(({ path }) => path);
  const all = paths.length === model.crossAttentions.length;
  const refinement = settings.method === "nullspace" ? refinementOf(settings) : undefined;
  const conceptOf = (prompt: string): Concept => {
    return { prompt, state: states.state(prompt, lastTokenPosition(prompt, model.tokenizer)) };
  };
  await breathe(signal);
  using owned = new DisposableStack();
  const prompts = { sentences, preserve, invariant };
  const refinements = refinement === undefined
    ? [{ layers: paths, refined: undefined }]
    : await refinedByLayer(layers, { pairs: erasedRows(sentences, states), preserve, states, withToK }, refinement);
  const systems = refinements.map(({ layers, refined }): LayerSystem => {
    const { system, nullSpace } = equations(prompts, settings, { states, whole, model, options, refined });
    return { layers, system: owned.use(system), ...(nullSpace && { nullSpace: { ...nullSpace, leftOut } }) };
  });
  const pooledSystem = pooled &&
    equations({ ...prompts, sentences: sentences.map(pooledSentence) }, settings, {
      states: allTokens(pooled),
      whole: pooled.embeddings,
      model,
      options: { ...options, route: undefined }, // of its own, much smaller, system
    }).system;
  owned.move(); // the caller's now
  return {
    recipe: recipeOf({ pairs, preserve: given, withToK, layers: all ? null : paths, withPooled }, settings),
    systems,
    ...(pooledSystem && { pooled: pooledSystem }),
    alignments,
    layers: paths,
    probe: endTokenEmbedding(whole.get(probeText)!, width, model),
    concepts: {
      erased: [...new Set(pairs.map(({ source }) => source))].map(conceptOf),
      retained: [...new Set(preserve)].map(conceptOf),
    },
  };
}

/**
 * The retained prompts of a null-space edit.
 *
 * @throws {EditError} when there is none
 */
function retainable(given: readonly string[], pairs: readonly EditPair[]): { kept: string[]; leftOut: string[] } {
  if (given.length === 0) {
    throw new EditError(
      "Cannot edit in a null space without retained prompts: set preserve to the concepts that must stay, " +
        'or use the method "uce"',
    );
  }
  const split = withoutErased(given, pairs.map(({ source }) => source));
  if (split.kept.length > 0) return split;
  throw new EditError(
    `Cannot edit in a null space as no retained prompt is left: preserve has ${given.length}, and each contains the words of an ` +
      `erased concept, such as ${JSON.stringify(given[0])}. Set preserve to other concepts`,
  );
}

/**
 * Encodes the texts of an edit: all their states, or their last tokens, by the text encoder as it
 * is now.
 *
 * @returns also the whole states of the probe and the invariant texts
 */
async function encoded(
  texts: readonly string[],
  { invariant, tokens, signal }: { invariant: readonly string[]; tokens: "all" | "last"; signal?: AbortSignal },
  model: EditableModel,
): Promise<{ states: TokenStates; whole: ReadonlyMap<string, Float32Array>; width: number }> {
  if (tokens === "all") {
    const all = await encodeOnHost(model, [...texts, probeText], { signal });
    return { states: allTokens(all), whole: all.embeddings, width: all.width };
  }
  const [whole, concepts] = await allEnded([
    encodeOnHost(model, [probeText, ...invariant], { signal }),
    encodeConcepts(model, texts, { signal }),
  ]);
  const states: TokenStates = {
    width: whole.width,
    positions: (text) => [lastTokenPosition(text, model.tokenizer)],
    state: (text) => concepts.get(text)!,
  };
  return { states, whole: whole.embeddings, width: whole.width };
}

/**
 * `Promise.all`, which rejects only when no promise is pending: an encoder that still runs would
 * hold tensors of a device that the caller may dispose of.
 */
async function allEnded<T extends readonly unknown[]>(
  promises: T,
): Promise<{ -readonly [I in keyof T]: Awaited<T[I]> }> {
  await Promise.allSettled(promises);
  return await Promise.all(promises);
}

/** A sentence whose one row is its pooled embedding. */
function pooledSentence({ destinations, ...rest }: Sentence): Sentence {
  return {
    ...rest,
    destinations: destinations.map(({ alignment, share }) => ({
      alignment: { ...alignment, positions: [[0, 0]] },
      share,
    })),
  };
}

/** The equations of each method. */
function equations(
  { sentences, preserve, invariant }: {
    sentences: readonly Sentence[];
    preserve: readonly string[];
    invariant: readonly string[];
  },
  settings: MethodSettings,
  { states, whole, model, options, refined }: {
    states: TokenStates;
    whole: ReadonlyMap<string, Float32Array>;
    model: EditableModel;
    options: EditSystemOptions;
    refined?: RefinedConcepts;
  },
): { system: SolvableSystem; nullSpace?: Omit<RetainedReport, "leftOut"> } {
  const { gpu } = model, { width } = states;
  const { preserveWeight } = settings;
  if (settings.method === "time") {
    return {
      system: EditSystem.fromHost(
        gpu,
        rowsOf(sentences, { prompts: preserve, weight: preserveWeight }, states),
        options,
      ),
    };
  }
  const erased = erasedRows(sentences, states);
  if (settings.method === "uce") {
    const { eraseScale, preserveScale } = settings;
    const preserved = rowsOf([], { prompts: preserve, weight: preserveWeight * preserveScale }, states);
    const edited = { ...erased, weights: erased.weights.map((weight) => weight * eraseScale) };
    return { system: new UceSystem(gpu, { edited, preserved }, options) };
  }
  const { threshold, retainScale } = settings;
  const system = new NullSpaceSystem(gpu, {
    pairs: erased,
    retained: refined?.rows ?? retainedRows(preserve, states),
    // Of the empty prompt, the begin token; all prompts share it.
    invariant: joined(invariant.map((text, i) => whole.get(text)!.subarray(0, i === 0 ? width : undefined))),
  }, { threshold, retainScale });
  return {
    system,
    nullSpace: {
      ...system.nullSpace,
      ...refined?.options.filter ? { influential: refined.kept.map((row) => preserve[row]) } : {},
      ...refined && refined.options.augment > 0 ? { augmented: refined.augmented } : {},
    },
  };
}

/** How the retained prompts are refined by layer; undefined where they are not. */
function refinementOf(
  { influenceFilter, augment = 0, augmentRank = 1 }: MethodSettings & { readonly method: "nullspace" },
): InfluenceOptions | undefined {
  return influenceFilter === undefined ? undefined : { filter: influenceFilter, augment, augmentRank };
}

function erasedRows(sentences: readonly Sentence[], states: TokenStates): HostRows {
  return rowsOf(sentences, { prompts: [], weight: 1 }, states);
}

function retainedRows(preserve: readonly string[], states: TokenStates): Float64Array {
  return rowsOf([], { prompts: preserve, weight: 1 }, states).source;
}

/** The retained concepts of some layers. */
interface RefinedConcepts extends InfluentialConcepts {
  readonly options: InfluenceOptions;
}

/** The retained concepts of each layer; layers that retain the same ones are together. */
async function refinedByLayer(
  layers: readonly CrossAttentionLayer[],
  { pairs, preserve, states, withToK }: {
    pairs: HostRows;
    preserve: readonly string[];
    states: TokenStates;
    withToK: boolean;
  },
  options: InfluenceOptions,
): Promise<{ layers: string[]; refined: RefinedConcepts }[]> {
  const retained = retainedRows(preserve, states);
  const groups = new Map<string, { layers: string[]; refined: RefinedConcepts }>();
  for (const layer of layers) {
    const weight = await weightOf(layer, { width: states.width, withToK });
    const refined = influentialConcepts({ pairs, retained, weight }, options);
    // Perturbed copies depend on the weight itself.
    const key = refined.augmented > 0 ? layer.path : refined.kept.join();
    const group = groups.get(key) ?? { layers: [], refined: { ...refined, options } };
    group.layers.push(layer.path);
    groups.set(key, group);
  }
  return [...groups.values()];
}

/** A layer's weight [features, width]: keys' projection, if edited, above that of values. */
async function weightOf(
  { toK, toV }: CrossAttentionLayer,
  { width, withToK }: { width: number; withToK: boolean },
): Promise<HostMatrix> {
  const parts = await Promise.all((withToK ? [toK, toV] : [toV]).map(({ weight }) => weight.data())); // exact: f32 or f16
  return hostMatrix(joined(parts), width);
}

function joined(parts: readonly (Float32Array | Float64Array)[]): Float64Array {
  const all = new Float64Array(parts.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}

/** The recipe of an edit. That of TIME has only the keys from before there were other editors. */
function recipeOf(
  prompts: Pick<EditRecipe, "pairs" | "preserve" | "withToK" | "layers" | "withPooled">,
  settings: MethodSettings,
): EditRecipe {
  const { pairs, preserve, withToK, layers, withPooled } = prompts;
  const { lamb, withAugs, preserveWeight, ...own } = settings;
  const common = {
    pairs,
    preserve,
    preserveWeight,
    lamb,
    withToK,
    withAugs,
    layers,
    ...(withPooled && { withPooled }),
  };
  return own.method === "time" && own.tokens === "all" ? common : { ...common, ...own };
}
