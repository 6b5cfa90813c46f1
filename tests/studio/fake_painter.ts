/** A painter without a model, for tests of the page. Calls are answered when the test says so. */
import type {
  AlignmentView,
  DrawnPicture,
  DrawProgress,
  EditSpec,
  ModelChoice,
  ModelFacts,
  Painter,
  PairSpec,
  PictureRequest,
  Prediction,
  ResponseCurves,
} from "../../studio/painter.ts";
import { PainterError } from "../../studio/painter.ts";

export const facts: ModelFacts = {
  name: "fake",
  parameters: 1e6,
  device: "a test, in this browser",
  size: 64,
  sizeStep: 8,
  guidance: 7.5,
  isXL: false,
  samplers: ["ddim", "euler"],
  textLayers: 4,
  bytes: 4e6,
  otherPages: 0,
};

/** A picture of one pixel, different for each request. */
let shade = 0;

export class FakePainter implements Painter {
  readonly place = "browser";
  readonly predictions: { edits: readonly EditSpec[]; prompts: readonly string[] }[] = [];
  readonly drawn: PictureRequest[] = [];
  curvesCalls = 0;
  /** Set to hold predictions back until it resolves. */
  gate: Promise<void> = Promise.resolve();
  /** Called with each picture before it is finished. */
  onDraw: (request: PictureRequest, count: number) => void | Promise<void> = () => {};
  openError?: PainterError;
  /** Pictures of other pages that each picture waits for. */
  waiting = 0;
  #abort?: (error: PainterError) => void;

  estimate(_choice: ModelChoice) {
    return Promise.resolve({ bytes: 1, limit: 2, fits: true, message: "fits" });
  }
  open(_choice: ModelChoice, onProgress: (done: number, total: number) => void): Promise<ModelFacts> {
    if (this.openError) return Promise.reject(this.openError);
    onProgress(1, 2);
    return Promise.resolve(facts);
  }
  align({ source, destination }: PairSpec): Promise<AlignmentView> {
    const chips = (text: string) =>
      [...text.split(" "), "end"].map((text) => ({ text, moved: false, added: !source.includes(text) }));
    const words = source.split(" ");
    const lost = words.findIndex((word) => !destination.split(" ").includes(word));
    return Promise.resolve(
      lost >= 0
        ? { ok: false, message: "no partner", source: chips(source), destination: chips(destination), lost }
        : { ok: true, source: chips(source), destination: chips(destination), links: [] },
    );
  }
  async predict(edits: readonly EditSpec[], prompts: readonly string[]): Promise<Prediction> {
    this.predictions.push({ edits, prompts });
    await this.gate;
    const strength = edits.filter(({ enabled }) => enabled).reduce((sum, { strength }) => sum + strength, 0);
    return { ms: 12.4, changes: prompts.map((prompt) => prompt.includes("rose") ? strength : strength / 10) };
  }
  curves(
    _edits: readonly EditSpec[],
    { prompts, lambdas }: { open: number; prompts: readonly string[]; lambdas: readonly number[] },
  ): Promise<ResponseCurves> {
    this.curvesCalls++;
    return Promise.resolve({ lambdas, changes: prompts.map(() => lambdas.map(() => 0.5)) });
  }
  async draw(request: PictureRequest, onProgress: (progress: DrawProgress) => void): Promise<DrawnPicture> {
    this.drawn.push(request);
    const { steps } = request.settings;
    const aborted = new Promise<never>((_, reject) => this.#abort = reject);
    aborted.catch(() => {});
    if (this.waiting > 0) onProgress({ step: 0, steps, waiting: this.waiting });
    onProgress({ step: 1, steps });
    await Promise.race([this.onDraw(request, this.drawn.length), aborted]);
    const data = new Uint8ClampedArray([shade++ % 256, 0, 0, 255]);
    return { pixels: { width: 1, height: 1, data }, ms: 1 };
  }
  stop(): Promise<void> {
    this.#abort?.(new PainterError({ kind: "aborted", message: "Stopped" }));
    return Promise.resolve();
  }
  encode(): Promise<never> {
    throw new Error("not used");
  }
  saveEdit(): Promise<never> {
    throw new Error("not used");
  }
  saveLora(): Promise<never> {
    throw new Error("not used");
  }
  read(): Promise<never> {
    throw new Error("not used");
  }
  useLora(): Promise<void> {
    return Promise.resolve();
  }
  close(): Promise<void> {
    return Promise.resolve();
  }
}
