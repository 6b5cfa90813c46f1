/**
 * Grids of pictures over two settings, to see what each does.
 *
 * @module
 */
import { samplerByName, type Scheduler, TorchGenerator } from "../../schedulers/mod.ts";
import { EditError, OptionError } from "../errors.ts";
import type { ModelEdit } from "../editing/model_edit.ts";
import type { EditMethod } from "../editing/prompts/method.ts";
import { type Picture, picturesFromFloats } from "../image/picture.ts";
import type { EditingPipeline } from "../editing_pipeline.ts";
import type { StepCallback } from "./denoising_options.ts";
import type { LoraDirectory } from "./options.ts";
import { checkOptions, givenOptions, kind, kinds, type OptionTable, wholeFrom } from "../options.ts";
import { naturalSize } from "./size.ts";
import type { PromptSyntax } from "./tokenized_prompts.ts";
import type { XLSettings } from "./xl_options.ts";

/**
 * A setting and its values: λ of the edits, their strength, the method of those that act, the seed,
 * the sampler by its name, denoising steps, or the scale of classifier-free guidance.
 */
export type GridAxis =
  | {
    /** A setting with numbers. */
    readonly name: "lambda" | "strength" | "steps" | "guidance";
    /** Its values, in the order of the grid. */
    readonly values: readonly number[];
  }
  | {
    /** The seed of the noise. */
    readonly name: "seed";
    /** From 0 to 2⁶⁴ − 1. */
    readonly values: readonly (number | bigint)[];
  }
  | {
    /** Of the edits, those of this method act. */
    readonly name: "method";
    /** Methods that edits have. */
    readonly values: readonly EditMethod[];
  }
  | {
    /** The sampler. */
    readonly name: "sampler";
    /** Names as `samplerByName()` takes them. */
    readonly values: readonly string[];
  };

/** Options of {@linkcode drawGrid}. */
export interface GridOptions {
  /** The axis from left to right. */
  readonly x: GridAxis;
  /** The axis from top to bottom. Default: one row. */
  readonly y?: GridAxis;
  /**
   * Edits that λ, strength and method apply to; they must be on the pipeline's stack. Default: all
   * of the stack.
   */
  readonly edits?: readonly ModelEdit[];
  /** What to keep out of the pictures. Default: nothing. */
  readonly negativePrompt?: string;
  /** Denoising steps, unless they are an axis. Default: 50. */
  readonly steps?: number;
  /** Guidance scale, unless it is an axis. Default: that of the pipeline. */
  readonly guidanceScale?: number;
  /** Seed of all pictures, unless it is an axis. Default: 0. */
  readonly seed?: number | bigint;
  /** Final layers of the text encoder to leave out. Default: 0. */
  readonly clipSkip?: number;
  /** How the prompts are read. Default: "plain". */
  readonly promptSyntax?: PromptSyntax;
  /** Where the LoRAs are that the prompt names. */
  readonly loraDir?: LoraDirectory;
  /** Whether edits act on the negative prompt. Default: true. */
  readonly editNegativePrompt?: boolean;
  /** Settings that only models of SDXL take. */
  readonly xl?: XLSettings;
  /** Pixels. Default: the size that the model was trained on. */
  readonly width?: number;
  /** Pixels. Default: the size that the model was trained on. */
  readonly height?: number;
  /** Ends the drawing between steps; the cells that were yielded are complete. */
  readonly signal?: AbortSignal;
  /** As that of `generate`. */
  readonly callback?: StepCallback;
}

const axisNames = ["lambda", "strength", "method", "steps", "guidance", "seed", "sampler"];

const axisKind = kind(
  `an object with name (${axisNames.join(", ")}) and values, a list`,
  (value) =>
    axisNames.includes((value as GridAxis | null)?.name as string) && Array.isArray((value as GridAxis).values),
);

/** What the grid itself reads; `generate` checks what it gets. */
const gridTable: OptionTable<GridOptions> = {
  x: axisKind,
  y: axisKind,
  edits: kind("a list of edits", Array.isArray),
  negativePrompt: kinds.text,
  steps: wholeFrom(1),
  guidanceScale: kinds.finite,
  seed: kinds.anything,
  clipSkip: kinds.anything,
  promptSyntax: kinds.anything,
  loraDir: kinds.anything,
  editNegativePrompt: kinds.flag,
  xl: kinds.object,
  width: kinds.finite,
  height: kinds.finite,
  signal: kinds.signal,
  callback: kinds.callback,
};

/** A finished picture of a grid. */
export interface GridCell {
  /** Index into the values of x. */
  readonly column: number;
  /** Index into the values of y; 0 without y. */
  readonly row: number;
  /** The picture. */
  readonly picture: Picture;
  /** What it was drawn with. The pipeline's edits and scheduler are so until the next cell. */
  readonly settings: GridCellSettings;
}

/** Settings of one cell. */
export interface GridCellSettings {
  /** λ of the edits, where it is an axis. */
  readonly lambda?: number;
  /** Strength of the edits, where it is an axis. */
  readonly strength?: number;
  /** The method of the edits that act, where it is an axis. */
  readonly method?: EditMethod;
  /** Denoising steps. */
  readonly steps: number;
  /** Guidance scale. */
  readonly guidance: number;
  /** Seed of the noise. */
  readonly seed: number | bigint;
  /** The sampler's name, where it is an axis. */
  readonly sampler?: string;
}

/**
 * Draws one prompt for all values of one or two settings. The model stays loaded; an edit is solved
 * again for each λ from its kept system. Afterwards, and when it is left early, the scheduler and
 * the edits are as before.
 *
 * ```ts
 * const x = { name: "lambda", values: [0.01, 0.1, 1] } as const;
 * for await (const { column, picture } of drawGrid(pipe, "a rose", { x, steps: 20 })) …
 * ```
 *
 * @throws {EditError} where λ, strength or method is an axis and there is no edit, a method has
 *   none, or λ is an axis and an edit was loaded from a file
 * @throws {OptionError} for unknown options and values of the wrong kind, and where
 *   both axes are the same setting, or one has no values
 */
export async function* drawGrid(
  pipe: EditingPipeline,
  prompt: string,
  options: GridOptions,
): AsyncGenerator<GridCell> {
  checkOptions("draw a grid", options, gridTable);
  const { x, y, edits = pipe.edits.entries.map(({ edit }) => edit) } = options;
  checkAxes(x, y, edits);
  const before = {
    scheduler: pipe.scheduler,
    edits: edits.map((edit) => ({ edit, lamb: edit.recipe.lamb, ...entryOf(pipe, edit) })),
  };
  const { steps = 50, guidanceScale = pipe.defaultGuidanceScale, seed = 0 } = options;
  const base: GridCellSettings = { steps, guidance: guidanceScale, seed };
  try {
    for (const { column, row } of cellsInOrder(x, y)) {
      const settings = {
        ...base,
        [x.name]: x.values[column],
        ...(y ? { [y.name]: y.values[row] } : {}),
      } as GridCellSettings;
      await applyEdits(pipe, edits, settings);
      pipe.scheduler = schedulerFor(before.scheduler, settings.sampler);
      yield { column, row, settings, picture: await drawCell(pipe, prompt, settings, options) };
    }
  } finally {
    pipe.scheduler = before.scheduler;
    for (const { edit, lamb, strength, enabled } of before.edits) {
      pipe.edits.setStrength(edit, strength);
      pipe.edits.toggle(edit, enabled);
      if (edit.recipe.lamb !== lamb) await edit.resolve({ lamb });
    }
  }
}

function checkAxes(x: GridAxis, y: GridAxis | undefined, edits: readonly ModelEdit[]): void {
  if (x === undefined) {
    throw new OptionError(`Cannot draw a grid without an axis: x must be ${axisKind.requirement}`, {
      option: "x",
      value: x,
    });
  }
  if (x.name === y?.name) {
    throw new OptionError(`Cannot draw a grid of ${x.name} and ${x.name}: choose two settings`, {
      option: "y",
      value: y.name,
    });
  }
  for (const axis of y ? [x, y] : [x]) {
    const { name, values } = axis;
    if (values.length === 0) {
      throw new OptionError(`Cannot draw a grid without values of ${name}: give at least one`, {
        option: name,
        value: values,
      });
    }
    if ((name === "lambda" || name === "strength") && edits.length === 0) {
      throw new EditError(`Cannot draw a grid of ${name} without an edit: push one onto the pipeline's edits`);
    }
    const without = axis.name === "method" && axis.values.find((method) => !edits.some((edit) => isOf(edit, method)));
    if (without) {
      throw new EditError(
        `Cannot draw a grid of methods without an edit of the method ${JSON.stringify(without)}: ` +
          "push one for each onto the pipeline's edits",
      );
    }
  }
}

/** Whether an edit is one of a method. */
function isOf(edit: ModelEdit, method: EditMethod): boolean {
  return (edit.recipe.method ?? "time") === method;
}

/** Row by row, or column by column where λ runs along x: each λ is then solved for once. */
function cellsInOrder(x: GridAxis, y: GridAxis | undefined): { column: number; row: number }[] {
  const columns = [...x.values.keys()], rows = y ? [...y.values.keys()] : [0];
  return x.name === "lambda"
    ? columns.flatMap((column) => rows.map((row) => ({ column, row })))
    : rows.flatMap((row) => columns.map((column) => ({ column, row })));
}

async function applyEdits(
  pipe: EditingPipeline,
  edits: readonly ModelEdit[],
  { lambda, strength, method }: GridCellSettings,
): Promise<void> {
  for (const edit of edits) {
    if (method !== undefined) {
      pipe.edits.toggle(edit, isOf(edit, method));
      if (!isOf(edit, method)) continue;
    }
    if (lambda !== undefined && edit.recipe.lamb !== lambda) await edit.resolve({ lamb: lambda });
    if (strength !== undefined) pipe.edits.setStrength(edit, strength);
  }
}

function schedulerFor(scheduler: Scheduler, sampler: string | undefined): Scheduler {
  return sampler === undefined ? scheduler : samplerByName(sampler, scheduler.config);
}

async function drawCell(
  pipe: EditingPipeline,
  prompt: string,
  { steps, guidance, seed }: GridCellSettings,
  options: GridOptions,
): Promise<Picture> {
  const { negativePrompt, clipSkip, promptSyntax, loraDir, editNegativePrompt, xl, signal, callback } = options;
  const { width = naturalSize(pipe), height = naturalSize(pipe) } = options;
  const { images } = await pipe.generate(
    prompt,
    givenOptions({
      width,
      height,
      ...xl,
      negativePrompt: negativePrompt || undefined,
      numInferenceSteps: steps,
      guidanceScale: guidance,
      clipSkip,
      promptSyntax,
      loraDir,
      editNegativePrompt,
      generator: new TorchGenerator(seed),
      outputType: "array" as const,
      signal,
      callback,
    }),
  );
  return picturesFromFloats(images, { width, height })[0];
}

function entryOf(pipe: EditingPipeline, edit: ModelEdit): { strength: number; enabled: boolean } {
  const entry = pipe.edits.entries.find((entry) => entry.edit === edit);
  if (entry) return { strength: entry.strength, enabled: entry.enabled };
  throw new EditError("Cannot draw a grid of an edit that is not on the pipeline's stack: push it first");
}
