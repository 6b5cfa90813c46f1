/**
 * The painter over the library itself: it runs in the page's worker and in the server's process.
 *
 * @module
 */

import { Gpu } from "../engine/gpu.ts";
import type { Tensor } from "../engine/tensor.ts";
import { SAMPLER_NAMES, samplerByName } from "../schedulers/mod.ts";
import { blobSource } from "../pipeline/checkpoint/source/byte_source.ts";
import { type FileTree, memoryTree } from "../pipeline/checkpoint/source/file_tree.ts";
import { openTree } from "../pipeline/checkpoint/source/disk.ts";
import { generationRecord } from "../pipeline/generation/record.ts";
import { generationText } from "../pipeline/image/generation_text.ts";
import { encodePicture, pictureFromFloats } from "../pipeline/image/picture.ts";
import { previewFromLatents } from "../pipeline/image/preview.ts";
import { inspectFile, inspectFolder, problemsOf } from "../pipeline/inspection.ts";
import { StableDiffusionModelEditingPipeline } from "../pipeline/model_editing.ts";
import { openTunedGpu } from "../pipeline/tuning_file.ts";
import { EditSolver, type SolvedEdit } from "./edit_solver.ts";
import { failureOf } from "./failure.ts";
import type {
  AlignmentView,
  DrawnPicture,
  DrawProgress,
  DroppedContent,
  EditSpec,
  ModelChoice,
  ModelFacts,
  Painter,
  PairSpec,
  PictureRequest,
  Pixels,
  Prediction,
  ResponseCurves,
  SavedFile,
} from "./painter.ts";
import { PainterError } from "./painter.ts";
import { alignmentView } from "./token_chips.ts";

/** Where a session finds its models, and the device that it draws on. */
export interface SessionOptions {
  readonly place: Painter["place"];
  /** The embedded model's folder: a path (Deno only), an address, or a tree. */
  readonly pocket: string | URL | FileTree;
  /** The model that a server was started with. */
  readonly served?: string;
  /** Default: a new device with its saved tuning. */
  readonly gpu?: () => Promise<Gpu>;
}

/** An open model. */
interface OpenModel extends Disposable {
  readonly pipe: StableDiffusionModelEditingPipeline;
  readonly solver: EditSolver;
  readonly name: string;
  /** The sampler settings that the model came with. */
  readonly schedulerConfig: Record<string, unknown>;
}

/** Pictures in between are made at most this often. */
const previewEveryMs = 400;

/** A {@linkcode Painter} over the library. */
export class StudioSession implements Painter {
  readonly place: Painter["place"];
  readonly #options: SessionOptions;
  #gpu: Promise<Gpu> | undefined;
  #model: OpenModel | undefined;
  #drawing: AbortController | undefined;
  /** Solving changes kept edits, so that one call solves at a time. */
  #solving: Promise<unknown> = Promise.resolve();
  #curvesCall = 0;

  constructor(options: SessionOptions) {
    this.place = options.place;
    this.#options = options;
  }

  async estimate(choice: ModelChoice): Promise<{ bytes: number; limit: number; fits: boolean; message: string }> {
    return await failing(async () => {
      const inspection = choice.kind === "file"
        ? await inspectFile(blobSource(choice.file, choice.name))
        : await inspectFolder(await openTree(this.#sourceOf(choice)));
      const [problem] = problemsOf(inspection);
      if (problem !== undefined) throw new PainterError({ kind: "input", message: problem });
      const bytes = inspection.parts.reduce((sum, part) => sum + part.bytes, 0);
      const gpu = await this.#device();
      const limit = gpu.info.limits.maxBufferSize;
      const mebibytes = Math.ceil(bytes / 2 ** 20);
      return { bytes, limit, fits: true, message: `${inspection.description}: ${mebibytes} MiB of weights` };
    });
  }

  async open(
    choice: ModelChoice,
    onProgress: (doneBytes: number, totalBytes: number) => void,
  ): Promise<ModelFacts> {
    return await failing(async () => {
      await this.stop();
      await this.#solving;
      this.#model?.[Symbol.dispose]();
      this.#model = undefined;
      const gpu = await this.#device();
      const before = gpu.memory.live;
      const options = {
        gpu,
        safetyChecker: null,
        onProgress: (_part: string, doneBytes: number, totalBytes: number) => onProgress(doneBytes, totalBytes),
      } as const;
      const pipe = choice.kind === "file"
        ? await StableDiffusionModelEditingPipeline.fromSingleFile(blobSource(choice.file, choice.name), options)
        : await StableDiffusionModelEditingPipeline.fromPretrained(this.#sourceOf(choice), options);
      const solver = new EditSolver(pipe);
      const name = nameOf(choice, this.#options.served);
      this.#model = {
        pipe,
        solver,
        name,
        schedulerConfig: { ...pipe.scheduler.config },
        [Symbol.dispose]: () => {
          solver[Symbol.dispose]();
          pipe[Symbol.dispose]();
        },
      };
      return factsOf(this.#model, gpu.memory.live - before, this.place);
    });
  }

  async align(pair: PairSpec): Promise<AlignmentView> {
    return await failing(() => alignmentView(pair, this.#opened.pipe.tokenizer));
  }

  async predict(edits: readonly EditSpec[], prompts: readonly string[]): Promise<Prediction> {
    return await failing(() =>
      this.#inTurn(async () => {
        const { solver } = this.#opened;
        const { solved, ms } = await solver.solve(edits);
        return { ms, changes: await solver.changes(edits, solved, prompts) };
      })
    );
  }

  async curves(
    edits: readonly EditSpec[],
    { open, prompts, lambdas }: { open: number; prompts: readonly string[]; lambdas: readonly number[] },
  ): Promise<ResponseCurves> {
    const call = ++this.#curvesCall;
    const changes: number[][] = prompts.map(() => []);
    for (const lambda of lambdas) {
      // One turn for each λ, so that a prediction for the slider never waits for the curve.
      await failing(() =>
        this.#inTurn(async () => {
          if (call !== this.#curvesCall) throw aborted();
          const { solver } = this.#opened;
          const specs = edits.map((edit, i) => i === open ? { ...edit, lambda, strength: 1, enabled: true } : edit);
          const { solved } = await solver.solve(specs);
          (await solver.changes(specs, solved, prompts)).forEach((change, i) => changes[i].push(change));
        })
      ).catch((error) => {
        // A λ too small for the numbers leaves a gap in the curve.
        if (!(error instanceof PainterError) || error.failure.kind !== "input") throw error;
        for (const curve of changes) curve.push(NaN);
      });
    }
    return { lambdas, changes };
  }

  async draw(request: PictureRequest, onProgress: (progress: DrawProgress) => void): Promise<DrawnPicture> {
    if (this.#drawing) throw new PainterError({ kind: "input", message: "A picture is being drawn: stop it first" });
    const drawing = new AbortController();
    this.#drawing = drawing;
    try {
      return await failing(() => this.#draw(request, onProgress, drawing.signal));
    } finally {
      this.#drawing = undefined;
    }
  }

  stop(): Promise<void> {
    this.#drawing?.abort(aborted());
    return Promise.resolve();
  }

  async encode(request: PictureRequest, pixels: Pixels, { withText }: { withText: boolean }): Promise<SavedFile> {
    return await failing(() =>
      this.#inTurn(async () => {
        const { prompt, settings } = request;
        let text: Record<string, string> = {};
        if (withText) {
          const { solved } = await this.#opened.solver.solve(request.edits);
          text = this.#withEdits(solved, (pipe) => {
            const record = generationRecord(pipe, {
              negativePrompt: settings.negativePrompt,
              steps: settings.steps,
              cfgScale: settings.guidance,
              clipSkip: settings.clipSkip,
              model: this.#opened.name,
              sampler: settings.sampler,
              width: settings.width,
              height: settings.height,
            });
            return generationText({ ...record, prompt, seed: BigInt(settings.seed) });
          });
        }
        const bytes = await encodePicture(withoutAlpha(pixels), "png", { text });
        return { name: `${fileName(prompt)}-${settings.seed}.png`, type: "image/png", bytes };
      })
    );
  }

  async saveEdit(edit: EditSpec): Promise<SavedFile> {
    return await failing(() =>
      this.#inTurn(async () => {
        const { solved: [entry] } = await this.#opened.solver.solve([{ ...edit, enabled: true, strength: 1 }]);
        const bytes = await collected((sink) => entry.edit.save(sink));
        return { name: `${fileName(edit.pairs[0].destination)}.edit.safetensors`, type: binary, bytes };
      })
    );
  }

  async saveLora(edits: readonly EditSpec[]): Promise<SavedFile> {
    return await failing(() =>
      this.#inTurn(async () => {
        const { solved } = await this.#opened.solver.solve(edits);
        if (solved.length === 0) {
          throw new PainterError({ kind: "input", message: "No edit is switched on: there is nothing to save" });
        }
        const bytes = await collected((sink) =>
          this.#withEdits(solved, (pipe) => pipe.edits.exportLora(sink, { model: pipe }))
        );
        const name = fileName(edits.find(({ enabled }) => enabled)!.pairs[0].destination);
        return { name: `${name}.lora.safetensors`, type: binary, bytes };
      })
    );
  }

  async read(file: Blob, name: string): Promise<DroppedContent> {
    return await failing(async () => {
      const { readDropped } = await import("./dropped.ts");
      return await readDropped(file, name);
    });
  }

  async useLora(file: Blob | null, name: string): Promise<void> {
    await failing(async () => {
      const { pipe } = this.#opened;
      if (file === null) pipe.unloadLoraWeights();
      else await pipe.loadLoraWeights(blobSource(file, name), {});
    });
  }

  async close(): Promise<void> {
    await this.stop();
    await this.#solving;
    this.#model?.[Symbol.dispose]();
    this.#model = undefined;
    (await this.#gpu?.catch(() => undefined))?.[Symbol.dispose]();
    this.#gpu = undefined;
  }

  async #draw(
    { prompt, settings, edits }: PictureRequest,
    onProgress: (progress: DrawProgress) => void,
    signal: AbortSignal,
  ): Promise<DrawnPicture> {
    const { pipe, schedulerConfig } = this.#opened;
    const { width, height, steps } = settings;
    const start = performance.now();
    const scheduler = samplerByName(settings.sampler, schedulerConfig);
    const scales = scheduler.plan(steps).steps.map(({ inputScale }) => inputScale);
    let previewed = start;
    const callback = async (step: number, _timestep: number, latents: Tensor): Promise<void> => {
      const now = performance.now();
      if (now - previewed < previewEveryMs || step + 1 >= steps) return onProgress({ step: step + 1, steps });
      previewed = now;
      const [preview] = await previewFromLatents(latents, { scale: scales[step + 1] ?? 1 });
      onProgress({ step: step + 1, steps, preview: withAlpha(preview) });
    };
    // generate() takes scheduler and edits before its first await: the turn ends with the call.
    const { images } = await (await this.#inTurn(async () => {
      const { solved } = await this.#opened.solver.solve(edits);
      signal.throwIfAborted();
      return this.#withEdits(solved, () => {
        pipe.scheduler = scheduler;
        return {
          running: pipe.generate(prompt, {
            width,
            height,
            numInferenceSteps: steps,
            guidanceScale: settings.guidance,
            negativePrompt: settings.negativePrompt,
            clipSkip: settings.clipSkip,
            generator: BigInt(settings.seed),
            outputType: "array",
            callback,
            signal,
          }),
        };
      });
    })).running;
    return { pixels: withAlpha(pictureFromFloats(images, { width, height })), ms: performance.now() - start };
  }

  /** Puts edits on the pipeline's stack while `body` runs, up to its first await. */
  #withEdits<T>(solved: readonly SolvedEdit[], body: (pipe: StableDiffusionModelEditingPipeline) => T): T {
    const { pipe } = this.#opened;
    for (const { edit, strength } of solved) pipe.edits.push(edit, { strength });
    try {
      return body(pipe);
    } finally {
      pipe.edits.clear();
    }
  }

  /** Runs `body` after the bodies before it. */
  #inTurn<T>(body: () => Promise<T>): Promise<T> {
    const run = this.#solving.then(body);
    this.#solving = run.catch(() => {});
    return run;
  }

  get #opened(): OpenModel {
    if (this.#model) return this.#model;
    throw new PainterError({ kind: "input", message: "No model is open" });
  }

  async #device(): Promise<Gpu> {
    this.#gpu ??= this.#options.gpu?.() ?? openTunedGpu();
    try {
      return await this.#gpu;
    } catch (error) {
      this.#gpu = undefined; // the next attempt may succeed
      throw error;
    }
  }

  #sourceOf(choice: Exclude<ModelChoice, { kind: "file" }>): string | URL | FileTree {
    if (choice.kind === "pocket") return this.#options.pocket;
    if (choice.kind === "folder") {
      return memoryTree(Object.fromEntries(choice.files.map(({ path, file }) => [path, file])), choice.name);
    }
    const { served } = this.#options;
    if (served !== undefined) return served;
    throw new PainterError({ kind: "input", message: "The server was started without a model of its own" });
  }
}

const binary = "application/octet-stream";

function nameOf(choice: ModelChoice, served: string | undefined): string {
  if (choice.kind === "pocket") return "pocket";
  return choice.kind === "served" ? served ?? "" : choice.name;
}

function factsOf({ pipe, name, schedulerConfig }: OpenModel, bytes: number, place: Painter["place"]): ModelFacts {
  const { unet, vae, textEncoder, gpu } = pipe;
  const own = SAMPLER_NAMES.find((sampler) =>
    samplerByName(sampler, schedulerConfig).constructor === pipe.scheduler.constructor
  );
  return {
    name,
    parameters: [unet, vae, textEncoder].reduce((sum, { weights }) => sum + weights.parameters, 0),
    device: `${gpu.info.name}, ${place === "browser" ? "in this browser" : "on the server"}`,
    size: (unet.config.sampleSize ?? 64) * vae.spatialScale,
    sizeStep: vae.spatialScale,
    samplers: own === undefined ? SAMPLER_NAMES : [own, ...SAMPLER_NAMES.filter((sampler) => sampler !== own)],
    textLayers: textEncoder.config.numHiddenLayers,
    bytes,
  };
}

function aborted(): PainterError {
  return new PainterError({ kind: "aborted", message: "Stopped" });
}

/** Runs `body`; its errors become those of a painter. */
async function failing<T>(body: () => T | Promise<T>): Promise<T> {
  try {
    return await body();
  } catch (error) {
    throw error instanceof PainterError ? error : new PainterError(failureOf(error));
  }
}

/** The bytes that `write` hands to its sink. */
async function collected(
  write: (sink: (chunk: Uint8Array) => void) => Promise<unknown>,
): Promise<Uint8Array<ArrayBuffer>> {
  const parts: Uint8Array<ArrayBuffer>[] = [];
  await write((chunk) => void parts.push(chunk.slice()));
  return new Uint8Array(await new Blob(parts).arrayBuffer());
}

/** A prompt as part of a file name: letters and digits of any script, joined by dashes. */
function fileName(prompt: string): string {
  return prompt.normalize("NFC").replace(/[^\p{L}\p{N}]+/gu, "-").replace(/^-|-$/g, "").slice(0, 60) || "picture";
}

function withAlpha({ data, width, height }: { data: Uint8Array; width: number; height: number }): Pixels {
  const pixels = new Uint8ClampedArray(width * height * 4).fill(255);
  for (let i = 0; i < width * height; i++) {
    for (let channel = 0; channel < 3; channel++) pixels[4 * i + channel] = data[3 * i + channel];
  }
  return { width, height, data: pixels };
}

function withoutAlpha({ data, width, height }: Pixels): { data: Uint8Array; width: number; height: number } {
  const rgb = new Uint8Array(width * height * 3);
  for (let i = 0; i < width * height; i++) {
    for (let channel = 0; channel < 3; channel++) rgb[3 * i + channel] = data[4 * i + channel];
  }
  return { data: rgb, width, height };
}
