/**
 * The model that a session has open: where it comes from, what it takes, and facts of it.
 *
 * @module
 */

import type { Gpu } from "../engine/gpu.ts";
import { blobSource, type ByteSource } from "../pipeline/checkpoint/source/byte_source.ts";
import { openSource, openTree } from "../pipeline/checkpoint/source/disk.ts";
import { type FileTree, memoryTree } from "../pipeline/checkpoint/source/file_tree.ts";
import { inspectFile, inspectFolder, type Inspection, problemsOf } from "../pipeline/inspection.ts";
import { advise } from "../pipeline/advice.ts";
import type { EditingPipeline } from "../pipeline/editing_pipeline.ts";
import { openPipeline } from "../pipeline/open_pipeline.ts";
import { Model } from "../pipeline/models/load.ts";
import { SAMPLER_NAMES, samplerByName, type Scheduler, SchedulerError } from "../schedulers/mod.ts";
import { EditSolver } from "./edit_solver.ts";
import { LatentPreview } from "./latent_preview.ts";
import { unpackedTree } from "./packed_weights.ts";
import { type ModelChoice, type ModelEstimate, type ModelFacts, type Painter, PainterError } from "./painter.ts";

/** Where the models that are not the visitor's lie: a path (Deno only), an address, or a tree. */
export interface ModelPlaces {
  readonly pocket: string | URL | FileTree;
  /** Whether its weights are packed, as a static build has them. Default: false. */
  readonly isPacked?: boolean;
  /** The model that a server was started with: a folder, or a single file. */
  readonly served?: string;
}

/** An open model. */
export interface OpenModel extends Disposable {
  readonly pipe: EditingPipeline;
  readonly solver: EditSolver;
  readonly preview: LatentPreview;
  readonly name: string;
  /** The sampler settings that the model came with. */
  readonly schedulerConfig: Record<string, unknown>;
  /** Bytes on the device. */
  readonly bytes: number;
}

/** Loads a model. */
export async function openModel(
  choice: ModelChoice,
  { gpu, places, onProgress }: {
    gpu: Gpu;
    places: ModelPlaces;
    onProgress: (doneBytes: number, totalBytes: number) => void;
  },
): Promise<OpenModel> {
  // The library would ask the hub for a tokenizer: nothing that a visitor drops may cause requests.
  if (lacksTokenizer(choice)) await estimateModel(choice, { gpu, places }); // says what is wrong
  const before = gpu.memory.live;
  const options = {
    gpu,
    safetyChecker: null,
    onProgress: (_part: string, doneBytes: number, totalBytes: number) => onProgress(doneBytes, totalBytes),
  } as const;
  const source = await sourceOf(choice, places, onProgress);
  const pipe = "file" in source
    ? await openPipeline(source.file, { ...options, ...(source.tokenizer ? { tokenizer: source.tokenizer } : {}) })
    : await openPipeline(source.folder, options);
  const solver = new EditSolver(pipe);
  await solver.warmUp();
  return {
    pipe,
    solver,
    preview: new LatentPreview(pipe),
    name: nameOf(choice, places),
    schedulerConfig: { ...pipe.scheduler.config },
    bytes: gpu.memory.live - before,
    [Symbol.dispose]: () => {
      solver[Symbol.dispose]();
      pipe[Symbol.dispose]();
    },
  };
}

/**
 * What opening a model would take.
 *
 * @throws {PainterError} if it would not load
 */
export async function estimateModel(
  choice: ModelChoice,
  { gpu, places }: { gpu: Gpu; places: ModelPlaces },
): Promise<ModelEstimate> {
  const source = await sourceOf(choice, places);
  const inspection = "file" in source
    ? await inspectFile(await openSource(source.file))
    : await inspectFolder(await openTree(source.folder));
  checkLoads(inspection);
  if (lacksTokenizer(choice)) {
    throw new PainterError({
      kind: "input",
      message: `Cannot open ${inspection.name} alone, as single files contain no tokenizer: ${advise("giveTokenizer")}`,
    });
  }
  const { bytes, largest, text } = describeModel(inspection);
  const limit = gpu.info.limits.maxBufferSize;
  const fits = largest <= limit;
  const reason = `. The largest part of it has ${mebibytes(largest)}, and this device takes at most ${
    mebibytes(limit)
  } in one piece: use a smaller model, or one in half precision`;
  return { bytes, limit, fits, message: fits ? text : text + reason };
}

/** @throws {PainterError} if what was inspected is no model, or would not load */
function checkLoads(inspection: Inspection): void {
  // Models are opened without their safety checkers.
  const [problem, ...others] = problemsOf(inspection).filter((each) => !/^(It has a )?safety_checker\b/.test(each));
  const more = others.length > 0 ? ` (and ${others.length} more)` : "";
  if (problem !== undefined) throw new PainterError({ kind: "input", message: `${problem}${more}` });
  if (isModel(inspection)) return;
  const { name, description } = inspection;
  throw new PainterError({
    kind: "input",
    message: `Cannot open ${name} as a model as it is ${description}: a model is a folder in diffusers' layout, ` +
      `or one .safetensors file of Stable Diffusion 1.x, 2.x or XL`,
  });
}

/** Whether what was inspected is a whole model: one with a UNet. */
export function isModel({ parts }: Inspection): boolean {
  return parts.some(({ part }) => part === "unet");
}

/** Size of a model's weights, of the largest of them, and a line that says what it is. */
export function describeModel(
  { description, parts }: Inspection,
): { bytes: number; largest: number; text: string } {
  const loaded = parts.filter(({ part }) => part !== "safety_checker");
  const bytes = loaded.reduce((sum, part) => sum + part.bytes, 0);
  const largest = Math.max(0, ...loaded.map((part) => part.largestBytes));
  return { bytes, largest, text: `${description}, ${mebibytes(bytes)} of weights` };
}

/** Facts of an open model for the page. */
export function factsOf(
  { pipe, name, schedulerConfig, bytes }: OpenModel,
  { place, otherPages }: { place: Painter["place"]; otherPages: number },
): ModelFacts {
  const { unet, gpu, vae, textEncoder } = pipe;
  const models = Object.values(pipe.components).filter((part) => part instanceof Model);
  const able = SAMPLER_NAMES.flatMap((sampler) => {
    const scheduler = schedulerOf(sampler, schedulerConfig);
    return scheduler === undefined ? [] : [{ sampler, scheduler }];
  });
  const own = able.find(({ scheduler }) => scheduler.constructor === pipe.scheduler.constructor);
  const others = able.filter((each) => each !== own);
  return {
    name,
    parameters: models.reduce((sum, { weights }) => sum + weights.parameters, 0),
    device: `${gpu.info.name}, ${place === "browser" ? "in this browser" : "on the server"}`,
    size: (unet.config.sampleSize ?? 64) * vae.spatialScale,
    sizeStep: vae.spatialScale,
    guidance: pipe.defaultGuidanceScale,
    isXL: pipe.encodePooled !== undefined,
    samplers: [...(own === undefined ? [] : [own]), ...others].map(({ sampler }) => sampler),
    textLayers: textEncoder.config.numHiddenLayers,
    bytes,
    otherPages,
  };
}

/** A sampler for a model; `undefined` where it cannot draw with it, such as by its prediction. */
function schedulerOf(sampler: string, config: Record<string, unknown>): Scheduler | undefined {
  try {
    return samplerByName(sampler, config);
  } catch (error) {
    if (error instanceof SchedulerError) return undefined;
    throw error;
  }
}

/** What the pipeline's loaders take. */
type ModelSource =
  | { readonly file: string | ByteSource; readonly tokenizer?: FileTree }
  | { readonly folder: string | URL | FileTree };

async function sourceOf(
  choice: ModelChoice,
  { pocket, isPacked = false, served }: ModelPlaces,
  onRead?: (doneBytes: number, totalBytes: number) => void,
): Promise<ModelSource> {
  switch (choice.kind) {
    case "pocket":
      return { folder: isPacked ? unpackedTree(await openTree(pocket), onRead) : pocket };
    case "folder":
      return { folder: treeOf(choice.files, choice.name) };
    case "file": {
      const { file, name, tokenizer = [] } = choice;
      return {
        file: blobSource(file, name),
        tokenizer: tokenizer.length === 0 ? undefined : treeOf(tokenizer, `${name}, tokenizer`),
      };
    }
    case "served":
      if (served !== undefined) return served.endsWith(".safetensors") ? { file: served } : { folder: served };
  }
  throw new PainterError({
    kind: "input",
    message: "The server has no model of its own: start it with bluerose studio --model DIR",
  });
}

function lacksTokenizer(choice: ModelChoice): boolean {
  return choice.kind === "file" && (choice.tokenizer ?? []).length === 0;
}

function treeOf(files: readonly { path: string; file: Blob }[], name: string): FileTree {
  return memoryTree(Object.fromEntries(files.map(({ path, file }) => [path, file])), name);
}

function nameOf(choice: ModelChoice, { served = "" }: ModelPlaces): string {
  if (choice.kind === "pocket") return "pocket";
  return choice.kind === "served" ? served.split(/[\\/]/).findLast((part) => part !== "") ?? served : choice.name;
}

function mebibytes(bytes: number): string {
  return `${(bytes / 2 ** 20).toFixed(bytes < 10 * 2 ** 20 ? 1 : 0)} MiB`;
}
