/**
 * The studio's one interface to a model. The page knows nothing else of the engine. Two
 * implementations exist: a worker in this browser, and the server's device over HTTP. Both accept
 * and return structured-cloneable values only.
 *
 * @module
 */

/** A closed-form editor of the library. */
export type EditMethod = "time" | "uce" | "nullspace";

/** Which tokens of two prompts are paired: all of them, or the last of each. */
export type RowTokens = "all" | "last";

/** One source prompt, and what it is to mean. */
export interface PairSpec {
  readonly source: string;
  /** "" erases the source, where the editor pairs last tokens. */
  readonly destination: string;
}

/** One edit of the stack, as the page keeps it, links it and stores it. */
export interface EditSpec {
  readonly pairs: readonly PairSpec[];
  /** λ of the editor's equation, above 0; from 0 in a null space. */
  readonly lambda: number;
  /** Scales E − I: 0 is no edit, 1 the edit as solved. */
  readonly strength: number;
  /** Whether keys are edited too, or values only. */
  readonly withToK: boolean;
  /** Whether the edit takes part. */
  readonly enabled: boolean;
  /** Prompts whose embeddings are to stay as they are. */
  readonly preserve: readonly string[];
  /** The editor; absent for TIME. */
  readonly method?: Exclude<EditMethod, "time">;
  /** UCE: weight of the pairs. Default: 1. */
  readonly eraseScale?: number;
  /** UCE: weight of the preserved prompts. Default: 1. */
  readonly preserveScale?: number;
  /** Null space: directions with eigenvalues below it are free to be edited. Default: 0.1. */
  readonly threshold?: number;
  /** Whether the pooled embedding is mapped, too (SDXL only); absent if not. */
  readonly withPooled?: boolean;
}

/** How pictures are drawn. */
export interface DrawSettings {
  /** Decimal digits of a number from 0 to 2⁶⁴ − 1. */
  readonly seed: string;
  readonly steps: number;
  readonly guidance: number;
  /** A name of {@linkcode ModelFacts.samplers}. */
  readonly sampler: string;
  /** In pixels. */
  readonly width: number;
  readonly height: number;
  readonly negativePrompt: string;
  /** Layers of the text encoder to leave out, from the last. */
  readonly clipSkip: number;
  /**
   * What the second text encoder reads, for all prompts (SDXL only). Absent: the prompt itself.
   */
  readonly prompt2?: string;
  /** The same for the negative prompt. Absent: the negative prompt itself. */
  readonly negativePrompt2?: string;
}

/** Which model to open. */
export type ModelChoice =
  /** The model beside the page. */
  | { readonly kind: "pocket" }
  /** A diffusers folder, by its files' paths inside it. */
  | { readonly kind: "folder"; readonly name: string; readonly files: readonly { path: string; file: Blob }[] }
  /**
   * A single .safetensors file. Such files hold no tokenizer: `tokenizer` has the files of one,
   * vocab.json and merges.txt or tokenizer.json.
   */
  | {
    readonly kind: "file";
    readonly name: string;
    readonly file: Blob;
    readonly tokenizer?: readonly { path: string; file: Blob }[];
  }
  /** The model that the server was started with. Only the server's painter has it. */
  | { readonly kind: "served" };

/** What the page says of an open model. */
export interface ModelFacts {
  readonly name: string;
  /** Number of parameters. */
  readonly parameters: number;
  /** The device, for people: its name and where it is. */
  readonly device: string;
  /** Default side of pictures, in pixels. */
  readonly size: number;
  /** Sizes are multiples of this many pixels. */
  readonly sizeStep: number;
  /** Default scale of classifier-free guidance. */
  readonly guidance: number;
  /** Whether it has a second text encoder, and a pooled embedding that edits can map (SDXL). */
  readonly isXL: boolean;
  /** Names of the samplers that can draw with it, its own first. */
  readonly samplers: readonly string[];
  /** Layers of the text encoder. */
  readonly textLayers: number;
  /** Bytes on the device. */
  readonly bytes: number;
  /** Other pages that draw on the same device, where pictures take turns. */
  readonly otherPages: number;
}

/** What opening a model would take. */
export interface ModelEstimate {
  /** Size of the weights. */
  readonly bytes: number;
  /** The largest single buffer of the device; a larger weight cannot be loaded. */
  readonly limit: number;
  readonly fits: boolean;
  /** The same for people: what the model is, its size, and why it does not fit. */
  readonly message: string;
}

/** A token of a prompt, as it is shown. */
export interface TokenChip {
  /** The token's text; "end" for the end token. */
  readonly text: string;
  /** Source: takes on a changed meaning. Destination: carries it. */
  readonly moved: boolean;
  /** Destination only: stands for no source token. */
  readonly added: boolean;
}

/** How the tokens of a pair correspond. */
export type AlignmentView =
  | {
    readonly ok: true;
    readonly source: readonly TokenChip[];
    readonly destination: readonly TokenChip[];
    /** Indices into both lists. */
    readonly links: readonly (readonly [source: number, destination: number])[];
  }
  | {
    readonly ok: false;
    /** Why, and what can be done. */
    readonly message: string;
    readonly source: readonly TokenChip[];
    readonly destination: readonly TokenChip[];
    /** Index of the source token without a counterpart, if one is known. */
    readonly lost?: number;
  };

/** What a stack of edits is predicted to do. */
export interface Prediction {
  /** Milliseconds that solving the edits took; 0 where nothing had to be solved. */
  readonly ms: number;
  /**
   * For each prompt: ‖X(E − I)ᵀ‖ / ‖X‖ of the whole stack, over the same of the edits' sources at
   * full strength as λ → 0. 0 is no change, 1 a full move; larger values occur.
   */
  readonly changes: readonly number[];
}

/** The change of each prompt over λ, for the edit that is open. */
export interface ResponseCurves {
  readonly lambdas: readonly number[];
  /** `changes[prompt][lambda]`; NaN where λ is too small for the arithmetic. */
  readonly changes: readonly (readonly number[])[];
}

/** Pixels in row order, four bytes each: red, green, blue, opaque. */
export interface Pixels {
  readonly width: number;
  readonly height: number;
  readonly data: Uint8ClampedArray<ArrayBuffer>;
}

/** One picture to draw. */
export interface PictureRequest {
  readonly prompt: string;
  readonly settings: DrawSettings;
  /** The edits to draw with; none for a picture before the edit. */
  readonly edits: readonly EditSpec[];
}

/** Progress of a picture. */
export interface DrawProgress {
  /** Steps that are done. */
  readonly step: number;
  readonly steps: number;
  /** The picture so far, now and then. */
  readonly preview?: Pixels;
  /** Pictures of other pages that are drawn first. The step is 0 meanwhile. */
  readonly waiting?: number;
}

/** A finished picture. */
export interface DrawnPicture {
  readonly pixels: Pixels;
  readonly ms: number;
}

/** A file for the visitor to save. */
export interface SavedFile {
  readonly name: string;
  readonly type: string;
  readonly bytes: Uint8Array<ArrayBuffer>;
}

/** What a dropped file holds. */
export type DroppedContent =
  | {
    readonly kind: "picture";
    readonly prompt: string;
    readonly settings: DrawSettings;
    readonly edits: readonly EditSpec[];
  }
  | { readonly kind: "edit"; readonly edit: EditSpec }
  | { readonly kind: "lora"; readonly summary: string }
  | { readonly kind: "model"; readonly summary: string; readonly bytes: number };

/** An error of a painter: its message is for the visitor, its kind for the page. */
export interface PainterFailure {
  readonly kind: "input" | "device" | "network" | "aborted" | "unexpected";
  readonly message: string;
}

/** Thrown by painters. Crosses workers and HTTP as its failure. */
export class PainterError extends Error {
  override name = "PainterError";
  readonly failure: PainterFailure;

  constructor(failure: PainterFailure, options?: ErrorOptions) {
    super(failure.message, options);
    this.failure = failure;
  }
}

/**
 * Opens a model, predicts edits, draws and exports. Pictures are drawn one after another; all
 * other calls are answered meanwhile. All errors are {@linkcode PainterError}s. After a failure of
 * kind "device", the next call starts the device again and opens the same model.
 */
export interface Painter {
  /** Where it draws: in this browser, or on the server. */
  readonly place: "browser" | "server";
  /**
   * What opening a model would take, before it is loaded.
   *
   * @throws {PainterError} where the model would be refused
   */
  estimate(choice: ModelChoice): Promise<ModelEstimate>;
  /** Opens a model in place of the open one. */
  open(choice: ModelChoice, onProgress: (doneBytes: number, totalBytes: number) => void): Promise<ModelFacts>;
  /**
   * Pairs the tokens of two prompts, for display while typing: all of them, or the last of each.
   * Opening another model aborts it.
   */
  align(pair: PairSpec, tokens: RowTokens): Promise<AlignmentView>;
  /**
   * Solves the enabled edits and predicts how far each prompt moves. Opening another model aborts
   * it.
   */
  predict(edits: readonly EditSpec[], prompts: readonly string[]): Promise<Prediction>;
  /**
   * The changes over λ for one edit of the stack, the others as they are. A later call aborts it,
   * and so does opening another model.
   */
  curves(
    edits: readonly EditSpec[],
    options: { open: number; prompts: readonly string[]; lambdas: readonly number[] },
  ): Promise<ResponseCurves>;
  /**
   * Draws one picture.
   *
   * @throws {PainterError} of kind "aborted" after {@linkcode Painter.stop}
   */
  draw(request: PictureRequest, onProgress: (progress: DrawProgress) => void): Promise<DrawnPicture>;
  /** Stops the picture that is being drawn, and those that wait. */
  stop(): Promise<void>;
  /** A picture as PNG, with all that drew it as text unless `withText` is false. */
  encode(request: PictureRequest, pixels: Pixels, options: { withText: boolean }): Promise<SavedFile>;
  /** An edit file, as `ModelEdit.save` writes it. */
  saveEdit(edit: EditSpec): Promise<SavedFile>;
  /** A LoRA of the enabled edits, as `exportLora` writes it. */
  saveLora(edits: readonly EditSpec[]): Promise<SavedFile>;
  /** Reads a dropped file. Nothing is applied. */
  read(file: Blob, name: string): Promise<DroppedContent>;
  /**
   * Loads a LoRA into the open model, or removes all of them with `null`. Waits for pictures that
   * are drawn.
   */
  useLora(file: Blob | null, name: string): Promise<void>;
  /** Frees the device. */
  close(): Promise<void>;
}
