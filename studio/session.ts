/**
 * The painter over the library itself: it runs in the page's worker and in the server's process.
 *
 * @module
 */

import type { Gpu } from "../engine/gpu.ts";
import type { Tensor } from "../engine/tensor.ts";
import { samplerByName } from "../schedulers/mod.ts";
import { blobSource } from "../pipeline/checkpoint/source/byte_source.ts";
import { sha256 } from "../pipeline/generation/exact_settings.ts";
import { pictureFromFloats } from "../pipeline/image/picture.ts";
import { openTunedGpu } from "../pipeline/tuning_file.ts";
import { IllConditionedError } from "../pipeline/editing/errors.ts";
import type { EditingPipeline } from "../pipeline/editing_pipeline.ts";
import { readDropped } from "./dropped.ts";
import type { SolvedEdit } from "./edit_solver.ts";
import { aborted, failing } from "./failure.ts";
import { estimateModel, factsOf, type ModelPlaces, type OpenModel, openModel } from "./open_model.ts";
import type {
  AlignmentView,
  DrawnPicture,
  DrawProgress,
  DroppedContent,
  EditSpec,
  ModelChoice,
  ModelEstimate,
  ModelFacts,
  Painter,
  PairSpec,
  PictureRequest,
  Pixels,
  Prediction,
  ResponseCurves,
  RowTokens,
  SavedFile,
} from "./painter.ts";
import { PainterError } from "./painter.ts";
import { type LoadedLora, picturePng } from "./picture_file.ts";
import { withAlpha } from "./pixels.ts";
import { binary, collected, fileName } from "./saved_file.ts";
import { alignmentView } from "./token_chips.ts";

/** Where a session finds its models, and the device that it draws on. */
export interface SessionOptions extends ModelPlaces {
  readonly place: Painter["place"];
  /** Opens the device. Default: a new device with its saved tuning. */
  readonly gpu?: () => Promise<Gpu>;
  /** Whether `close()` frees the device. Default: true. */
  readonly ownsGpu?: boolean;
  /** Number of other pages that draw on the same device. Default: 0. */
  readonly otherPages?: () => number;
}

/** Pictures in between are made at most this often. */
const previewEveryMs = 400;

/** A {@linkcode Painter} over the library. */
export class StudioSession implements Painter {
  readonly place: Painter["place"];
  readonly #options: SessionOptions;
  #gpu: Promise<Gpu> | undefined;
  #model: OpenModel | undefined;
  #loras: LoadedLora[] = [];
  /** Pictures that are drawn or wait. */
  readonly #drawings = new Set<AbortController>();
  /** Pictures are drawn one after another. */
  #drawn: Promise<unknown> = Promise.resolve();
  /** Solving changes kept edits, so that one call solves at a time. */
  #solving: Promise<unknown> = Promise.resolve();
  /** Models that are being opened. */
  #opening = 0;
  /** Predictions and curves of the open model. */
  #questions = new AbortController();
  /** The latest call of {@linkcode curves}. */
  #curves = new AbortController();

  constructor(options: SessionOptions) {
    this.place = options.place;
    this.#options = options;
  }

  async estimate(choice: ModelChoice): Promise<ModelEstimate> {
    return await failing(async () => await estimateModel(choice, { gpu: await this.#device(), places: this.#options }));
  }

  async open(
    choice: ModelChoice,
    onProgress: (doneBytes: number, totalBytes: number) => void,
  ): Promise<ModelFacts> {
    this.#opening++;
    try {
      return await failing(async () => {
        await this.#closeModel();
        const gpu = await this.#device();
        this.#model = await openModel(choice, { gpu, places: this.#options, onProgress });
        return factsOf(this.#model, { place: this.place, otherPages: this.#options.otherPages?.() ?? 0 });
      });
    } finally {
      this.#opening--;
    }
  }

  async align(pair: PairSpec, tokens: RowTokens): Promise<AlignmentView> {
    return await failing(() => alignmentView(pair, tokens, this.#opened.pipe.tokenizer));
  }

  async predict(edits: readonly EditSpec[], prompts: readonly string[]): Promise<Prediction> {
    const { signal } = this.#questions;
    return await failing(() =>
      this.#inTurn(async () => {
        signal.throwIfAborted();
        const { solver } = this.#opened;
        const { solved, ms } = await solver.solve(edits, { signal });
        return { ms, changes: await solver.changes(edits, solved, prompts, { signal }) };
      })
    );
  }

  async curves(
    edits: readonly EditSpec[],
    { open, prompts, lambdas }: { open: number; prompts: readonly string[]; lambdas: readonly number[] },
  ): Promise<ResponseCurves> {
    this.#curves.abort(aborted());
    this.#curves = new AbortController();
    const signal = AbortSignal.any([this.#curves.signal, this.#questions.signal]);
    const changes: number[][] = prompts.map(() => []);
    for (const lambda of lambdas) {
      // One turn for each λ, so that a prediction for the slider never waits for the curve.
      const at = await failing(() =>
        this.#inTurn(async () => {
          signal.throwIfAborted();
          const { solver } = this.#opened;
          const specs = edits.map((edit, i) => i === open ? { ...edit, lambda, strength: 1, enabled: true } : edit);
          try {
            const { solved } = await solver.solve(specs, { signal });
            return await solver.changes(specs, solved, prompts, { signal });
          } catch (error) {
            if (!(error instanceof IllConditionedError)) throw error;
            return prompts.map(() => NaN);
          }
        })
      );
      at.forEach((change, i) => changes[i].push(change));
    }
    return { lambdas, changes };
  }

  async draw(request: PictureRequest, onProgress: (progress: DrawProgress) => void): Promise<DrawnPicture> {
    const drawing = new AbortController();
    this.#drawings.add(drawing);
    try {
      return await failing(() =>
        this.#alone(() => {
          drawing.signal.throwIfAborted();
          return this.#draw(request, onProgress, drawing.signal);
        })
      );
    } finally {
      this.#drawings.delete(drawing);
    }
  }

  stop(): Promise<void> {
    for (const drawing of this.#drawings) drawing.abort(aborted());
    return Promise.resolve();
  }

  async encode(request: PictureRequest, pixels: Pixels, { withText }: { withText: boolean }): Promise<SavedFile> {
    return await failing(() =>
      this.#inTurn(async () => {
        const { pipe, solver, name, schedulerConfig } = this.#opened;
        const { solved } = withText ? await solver.solve(request.edits) : { solved: [] };
        // The record reads the edits before its first await.
        const bytes = await this.#withEdits(solved, () =>
          picturePng(request, pixels, {
            withText,
            pipe,
            model: name,
            scheduler: samplerByName(request.settings.sampler, schedulerConfig).config,
            loras: this.#loras,
          }));
        return { name: `${fileName(request.prompt)}-${request.settings.seed}.png`, type: "image/png", bytes };
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
    return await failing(() => readDropped(file, name));
  }

  async useLora(file: Blob | null, name: string): Promise<void> {
    await failing(() =>
      this.#alone(() =>
        this.#inTurn(async () => {
          const { pipe, solver } = this.#opened;
          if (file === null) {
            pipe.unloadLoraWeights();
            this.#loras = [];
          } else {
            await pipe.loadLoraWeights(blobSource(file, name), {});
            this.#loras.push({ name, sha256: await sha256(new Uint8Array(await file.arrayBuffer())) });
          }
          solver.clear(); // a LoRA may change the text encoder
        })
      )
    );
  }

  async close(): Promise<void> {
    await this.#closeModel();
    const gpu = await this.#gpu?.catch(() => undefined);
    this.#gpu = undefined;
    if (this.#options.ownsGpu ?? true) gpu?.[Symbol.dispose]();
  }

  async #draw(
    { prompt, settings, edits }: PictureRequest,
    onProgress: (progress: DrawProgress) => void,
    signal: AbortSignal,
  ): Promise<DrawnPicture> {
    const { pipe, preview, schedulerConfig } = this.#opened;
    const { width, height, steps } = settings;
    const start = performance.now();
    const scheduler = samplerByName(settings.sampler, schedulerConfig);
    const scales = scheduler.plan(steps).steps.map(({ inputScale }) => inputScale);
    let previewed = start;
    const callback = async (step: number, _timestep: number, latents: Tensor): Promise<void> => {
      const now = performance.now();
      if (now - previewed < previewEveryMs || step + 1 >= steps) return onProgress({ step: step + 1, steps });
      previewed = now;
      const picture = await preview.draw(latents, scales[step + 1] ?? 1);
      onProgress({ step: step + 1, steps, preview: withAlpha(picture) });
    };
    // generate() takes scheduler and edits before its first await: the turn ends with the call.
    const { images } = await (await this.#inTurn(async () => {
      const { solved } = await this.#opened.solver.solve(edits, { signal });
      signal.throwIfAborted();
      return this.#withEdits(solved, () => {
        pipe.scheduler = scheduler;
        return {
          running: pipe.generate(prompt, {
            width,
            height,
            numInferenceSteps: steps,
            guidanceScale: settings.guidance,
            negativePrompt: settings.negativePrompt || undefined,
            clipSkip: settings.clipSkip,
            // Other families have no such options, not even undefined ones.
            ...(settings.prompt2 && { prompt2: settings.prompt2 }),
            ...(settings.negativePrompt2 && { negativePrompt2: settings.negativePrompt2 }),
            generator: seedOf(settings.seed),
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
  #withEdits<T>(solved: readonly SolvedEdit[], body: (pipe: EditingPipeline) => T): T {
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

  /** Runs `body` when no picture is drawn. */
  #alone<T>(body: () => Promise<T>): Promise<T> {
    const run = this.#drawn.then(body);
    this.#drawn = run.catch(() => {});
    return run;
  }

  async #closeModel(): Promise<void> {
    await this.stop();
    this.#questions.abort(aborted());
    this.#questions = new AbortController();
    await this.#drawn;
    await this.#solving;
    this.#model?.[Symbol.dispose]();
    this.#model = undefined;
    this.#loras = [];
  }

  get #opened(): OpenModel {
    if (this.#model) return this.#model;
    if (this.#opening > 0) throw aborted(); // asked of the model before
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
}

/** A seed of the settings as a number. */
function seedOf(seed: string): bigint {
  if (/^\d{1,20}$/.test(seed) && BigInt(seed) < 2n ** 64n) return BigInt(seed);
  throw new PainterError({
    kind: "input",
    message: `The seed must be a whole number from 0 to 2^64 - 1: ${JSON.stringify(seed)}`,
  });
}
