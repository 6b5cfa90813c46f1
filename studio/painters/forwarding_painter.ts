/** A painter whose calls are carried out elsewhere. @module */

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
} from "../painter.ts";

/** The methods of a painter. */
export type PainterMethod = Exclude<keyof Painter, "place">;

/** What a method returns. */
export type ResultOf<M extends PainterMethod> = Awaited<ReturnType<Painter[M]>>;

/** Receives the progress of a call: the arguments of its callback. */
export type OnProgress = (...progress: never[]) => void;

/** A call of a painter, as a value. Callbacks stand apart, because they do not cross threads. */
export interface PainterCall<M extends PainterMethod = PainterMethod> {
  readonly method: M;
  readonly args: readonly unknown[];
}

/** Makes a call of a painter that was described by {@linkcode PainterCall}. */
export function callPainter(
  painter: Painter,
  { method, args }: PainterCall,
  onProgress?: OnProgress,
): Promise<unknown> {
  const all = onProgress === undefined ? args : [...args, onProgress];
  return (painter[method] as (...args: unknown[]) => Promise<unknown>).apply(painter, all as unknown[]);
}

/** Turns the methods of a painter into calls of one method. */
export abstract class ForwardingPainter implements Painter {
  abstract readonly place: Painter["place"];

  /** Carries a call out. */
  protected abstract call<M extends PainterMethod>(call: PainterCall<M>, onProgress?: OnProgress): Promise<ResultOf<M>>;

  estimate(choice: ModelChoice): Promise<ModelEstimate> {
    return this.call({ method: "estimate", args: [choice] });
  }

  open(choice: ModelChoice, onProgress: (doneBytes: number, totalBytes: number) => void): Promise<ModelFacts> {
    return this.call({ method: "open", args: [choice] }, onProgress);
  }

  align(pair: PairSpec, tokens: RowTokens): Promise<AlignmentView> {
    return this.call({ method: "align", args: [pair, tokens] });
  }

  predict(edits: readonly EditSpec[], prompts: readonly string[]): Promise<Prediction> {
    return this.call({ method: "predict", args: [edits, prompts] });
  }

  curves(
    edits: readonly EditSpec[],
    options: { open: number; prompts: readonly string[]; lambdas: readonly number[] },
  ): Promise<ResponseCurves> {
    return this.call({ method: "curves", args: [edits, options] });
  }

  draw(request: PictureRequest, onProgress: (progress: DrawProgress) => void): Promise<DrawnPicture> {
    return this.call({ method: "draw", args: [request] }, onProgress);
  }

  stop(): Promise<void> {
    return this.call({ method: "stop", args: [] });
  }

  encode(request: PictureRequest, pixels: Pixels, options: { withText: boolean }): Promise<SavedFile> {
    return this.call({ method: "encode", args: [request, pixels, options] });
  }

  saveEdit(edit: EditSpec): Promise<SavedFile> {
    return this.call({ method: "saveEdit", args: [edit] });
  }

  saveLora(edits: readonly EditSpec[]): Promise<SavedFile> {
    return this.call({ method: "saveLora", args: [edits] });
  }

  read(file: Blob, name: string): Promise<DroppedContent> {
    return this.call({ method: "read", args: [file, name] });
  }

  useLora(file: Blob | null, name: string): Promise<void> {
    return this.call({ method: "useLora", args: [file, name] });
  }

  close(): Promise<void> {
    return this.call({ method: "close", args: [] });
  }
}
