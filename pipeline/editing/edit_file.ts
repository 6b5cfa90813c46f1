/** Edit files: safetensors with the factors of E − I as tensors and the recipe as metadata. */

import { countText } from "../../engine/inspect.ts";
import { checkArgument, kind } from "../options.ts";
import { EditError } from "../errors.ts";
import { bytesSource } from "../checkpoint/source/byte_source.ts";
import { fileSource } from "../checkpoint/source/disk.ts";
import { recognizeCheckpoint, unknownFile } from "../checkpoint/diffusers/checkpoint_kind.ts";
import { SafetensorsFile } from "../checkpoint/safetensors/safetensors_file.ts";
import { saveSafetensors } from "../checkpoint/save.ts";
import type { ByteSink } from "../output/byte_sink.ts";
import { computedEntry } from "../checkpoint/safetensors/tensor_stream.ts";
import * as v from "valibot";
import { anyText, fields, finite, fromZero, listOf, oneOf, type Schema, validateJson, whole } from "../schema.ts";
import type { ConceptMove, ConceptMoves } from "./moves.ts";
import type { LayerReport } from "./edit_operators.ts";
import type { OperatorReport, SavedFactors } from "./operator.ts";
import type { RetainedReport } from "./prepare_edit.ts";
import type { Probe } from "./probe.ts";
import type { EditRecipe } from "./prompts/recipe.ts";
import { maxPrompts, recipeSchema } from "./prompts/recipe_schema.ts";

/**
 * The formats' names in the metadata; files with any other name are rejected. Edits of other
 * methods than TIME have a format of their own, and so have edits that map the pooled embedding and
 * edits with several operators, so that older versions refuse them instead of taking their recipes
 * for TIME's, or a part for the whole.
 */
const formats = {
  time: "blue-rose-edit-1",
  others: "blue-rose-edit-2",
  pooled: "blue-rose-edit-3",
  byLayer: "blue-rose-edit-4",
} as const;

/** Whether a file with this metadata is an edit. */
export function isEditFormat(format: string | undefined): boolean {
  return Object.values(formats).some((known) => known === format);
}

/** The factors of an operator, and the layers that it edits. */
export interface SavedOperator {
  /** Paths of the layers. */
  readonly layers: readonly string[];
  readonly factors: SavedFactors;
}

/** The contents of an edit file. */
export interface EditFile {
  /** One for all layers of the recipe, or one for some layers each. */
  readonly operators: readonly SavedOperator[];
  /** The operator of the pooled embedding, of edits `withPooled`. */
  readonly pooled?: SavedFactors;
  /** The embedding of a fixed text, which identifies the text encoders. */
  readonly probe: Probe;
  readonly recipe: EditRecipe;
  readonly report: SavedReport;
}

/** The report of a file; those of TIME have neither moves nor a null space. */
export type SavedReport = OperatorReport & {
  readonly moves?: ConceptMoves;
  readonly nullSpace?: RetainedReport;
  readonly pooled?: OperatorReport;
  readonly byLayer?: readonly LayerReport[];
};

/** What the names of the pooled embedding's factors begin with. */
const pooledPrefix = "pooled.";

/** What the names of an operator's factors begin with: nothing for the first, then "1.", "2.", … */
function operatorPrefix(index: number): string {
  return index === 0 ? "" : `${index}.`;
}

/**
 * Writes an edit: to a file, atomically, or as bytes to a function.
 *
 * @throws {EditError} for a recipe or report that {@linkcode readEdit} would refuse
 */
export async function writeEdit(target: string | ByteSink, edit: EditFile): Promise<void> {
  const { operators, pooled, probe } = edit;
  const recipe = JSON.stringify(edit.recipe), report = JSON.stringify(edit.report);
  const refuse = (reason: string) => new EditError(`Cannot save an edit that could not be read again: ${reason}`);
  validateJson(recipeSchema, recipe, refuse);
  validateJson(reportSchema, report, refuse);
  const [{ factors: { width } }] = operators;
  const entry = (name: string, shape: number[], values: Float32Array<ArrayBuffer>) =>
    computedEntry(name, shape, "f32", () => Promise.resolve(values));
  const factors = (prefix: string, { rank, width, left, right }: SavedFactors) => [
    entry(`${prefix}left`, [rank, width], left),
    ...(right ? [entry(`${prefix}right`, [rank, width], right)] : []),
  ];
  await saveSafetensors(target, [
    ...operators.flatMap(({ factors: each }, index) => factors(operatorPrefix(index), each)),
    ...(pooled ? factors(pooledPrefix, pooled) : []),
    entry("probe", [width], Float32Array.from(probe.embedding)),
  ], {
    metadata: {
      format: formatOf(edit),
      ...(operators.length > 1 ? { layers: JSON.stringify(operators.map(({ layers }) => layers)) } : {}),
      ...(probe.encoderWidths.length > 1 ? { encoders: JSON.stringify(probe.encoderWidths) } : {}),
      recipe,
      report,
    },
  });
}

const sourceKind = kind(
  "a path, or the bytes of a file",
  (value) => typeof value === "string" || value instanceof Uint8Array,
);

function formatOf({ operators, pooled, recipe }: EditFile): string {
  if (operators.length > 1) return formats.byLayer;
  return pooled ? formats.pooled : recipe.method === undefined ? formats.time : formats.others;
}

/**
 * The operators of a file, each with its layers.
 *
 * @param layers paths of the layers that the file's recipe edits
 * @throws {EditError} when several operators do not have each of these layers once
 */
export function operatorsOfFile(
  { name, operators }: Pick<EditFile, "operators"> & { readonly name: string },
  layers: readonly string[],
): SavedOperator[] {
  if (operators.length === 1) return [{ ...operators[0], layers }];
  const listed = operators.flatMap(({ layers }) => layers);
  const known = new Set(listed), missing = layers.filter((layer) => !known.has(layer));
  if (missing.length === 0 && listed.length === layers.length && known.size === layers.length) return [...operators];
  throw new EditError(
    `Cannot use the edit ${name} on this model: its operators must edit each of ${
      countText(layers.length, "layer")
    } once, and name ` +
      `${listed.length}; ${missing.length > 0 ? `${missing[0]} has none` : "some have two, or are not edited"}`,
  );
}

/**
 * Reads an edit from a path or bytes.
 *
 * @param bytesName what messages call bytes
 * @throws {EditError} when the file does not contain a valid edit
 * @throws {SafetensorsError} when it is not a safetensors file
 */
export async function readEdit(
  source: string | Uint8Array,
  bytesName = "edit",
): Promise<EditFile & { readonly name: string }> {
  checkArgument("read an edit", "source", source, sourceKind);
  using file = await SafetensorsFile.open(
    typeof source === "string" ? await fileSource(source) : bytesSource(source, bytesName),
  );
  const { name, metadata, tensors } = file;
  const shape = tensors.get("left")?.shape;
  if (!isEditFormat(metadata.format) || shape?.length !== 2 || !tensors.has("probe")) {
    const { description, advice } = recognizeCheckpoint(file);
    const isOther = description !== unknownFile && !isEditFormat(metadata.format);
    throw new EditError(
      isOther ? `Cannot read ${name} as an edit as it is ${description}; ${advice}` : (
        `Cannot read ${name} as an edit: its metadata must have the format ${
          Object.values(formats).map((name) => JSON.stringify(name)).join(" or ")
        } and is ${JSON.stringify(metadata.format ?? null)}; it must hold the tensors left and probe and holds ${
          [...tensors.keys()].slice(0, 5).join(", ") || "none"
        }`
      ),
    );
  }
  const [, width] = shape;
  const values = async (key: string) => {
    const read = await file.float32(key), at = read.findIndex((value) => !Number.isFinite(value));
    if (at < 0) return read;
    throw new EditError(`Cannot use the edit ${name} as ${read[at]} stands in its tensor "${key}"`);
  };
  const factors = async (prefix: string): Promise<SavedFactors> => {
    const [rank = 0, width = 0, ...more] = tensors.get(`${prefix}left`)?.shape ?? [];
    const left = await values(`${prefix}left`);
    const right = tensors.has(`${prefix}right`) ? await values(`${prefix}right`) : undefined;
    if (more.length === 0 && (right ? right.length === left.length : rank === width)) {
      return { rank, width, left, right };
    }
    throw new EditError(
      `Cannot read the edit ${name} as its tensors must agree in shape: ${prefix}left is [${rank}, ${width}], ` +
        `${prefix}right has ${right?.length ?? 0} elements`,
    );
  };
  const layerGroups = metadata.format === formats.byLayer
    ? validateJson(
      listOf(listOf(anyText(), { min: 1, max: 1000 }), { min: 2, max: 1000 }),
      metadata.layers ?? "",
      (reason) => new EditError(`Cannot read the edit ${name} as its layers are malformed: ${reason}`),
    )
    : [[]];
  const operators: SavedOperator[] = [];
  for (const [index, layers] of layerGroups.entries()) {
    const key = `${operatorPrefix(index)}left`;
    if (tensors.get(key)?.shape[1] !== width) {
      throw new EditError(
        `Cannot read the edit ${name} as its operators must have one width: ${key} must be [rank, ${width}] and is ` +
          `${tensors.has(key) ? `[${tensors.get(key)!.shape.join(", ")}]` : "missing"}`,
      );
    }
    operators.push({ layers, factors: await factors(operatorPrefix(index)) });
  }
  const pooled = metadata.format === formats.pooled ? await factors(pooledPrefix) : undefined;
  const embedding = await values("probe");
  const encoderWidths = metadata.encoders === undefined ? [width] : validateJson(
    listOf(whole(1, 1_000_000), { min: 1, max: 2 }),
    metadata.encoders,
    (reason) => new EditError(`Cannot read the edit ${name} as its encoders are malformed: ${reason}`),
  );
  if (embedding.length !== width || encoderWidths.reduce((sum, each) => sum + each) !== width) {
    throw new EditError(
      `Cannot read the edit ${name} as its tensors must agree in shape: left has width ${width}, ` +
        `probe has ${embedding.length} elements, the text encoders have ${encoderWidths.join(" + ")}`,
    );
  }
  const part = <T>(key: string, schema: Schema<T>): T =>
    validateJson(
      schema,
      metadata[key] ?? "",
      (reason) => new EditError(`Cannot read the edit ${name} as its ${key} is malformed: ${reason}`),
    );
  const recipe = part("recipe", recipeSchema), report = part("report", reportSchema);
  return { name, operators, ...(pooled && { pooled }), probe: { embedding, encoderWidths }, recipe, report };
}

/** A number of a report. JSON writes NaN and Infinity as null. */
const reported: Schema<number> = v.nullable(finite(), NaN);
const moveSchema: Schema<ConceptMove> = fields({ prompt: anyText(), moved: reported });
const eigenvalues: Schema<number[]> = listOf(finite(), { max: 100 });
const operatorReport = {
  rows: whole(0, Number.MAX_SAFE_INTEGER),
  mergedRows: whole(0, Number.MAX_SAFE_INTEGER),
  rank: whole(0, Number.MAX_SAFE_INTEGER),
  route: oneOf("tokens", "channels"),
  precision: oneOf("f64", "f32 refined"),
  lamb: fromZero(),
  conditionEstimate: reported,
  residual: reported,
  relativeSize: reported,
  ms: reported,
  limitedBy: anyText(),
};
const conceptReport = {
  moves: v.optional(fields({
    erased: listOf(moveSchema, { max: maxPrompts }),
    mostMovedRetained: v.optional(moveSchema),
  })),
  nullSpace: v.optional(fields({
    dimension: whole(1, Number.MAX_SAFE_INTEGER),
    above: eigenvalues,
    below: eigenvalues,
    leftOut: listOf(anyText(), { max: maxPrompts }),
    influential: v.optional(listOf(anyText(), { max: maxPrompts })),
    augmented: v.optional(whole(0, Number.MAX_SAFE_INTEGER)),
  })),
};
const reportSchema: Schema<SavedReport> = fields({
  ...operatorReport,
  ...conceptReport,
  pooled: v.optional(fields(operatorReport)),
  byLayer: v.optional(
    listOf(fields({ layers: listOf(anyText(), { max: 1000 }), ...operatorReport, ...conceptReport }), { max: 1000 }),
  ),
});
