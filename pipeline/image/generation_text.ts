/**
 * The metadata of a generated picture as PNG text. The keyword `parameters` holds it in the format
 * of A1111's web UI, which "PNG Info" and ComfyUI tools read; `bluerose` holds the same as JSON.
 *
 * @module
 */

/** The settings that a picture was generated with. */
export interface GenerationRecord {
  readonly prompt: string;
  readonly negativePrompt: string;
  /** From 0 to 2⁶⁴ − 1. */
  readonly seed: number | bigint;
  readonly steps: number;
  readonly cfgScale: number;
  /** The scheduler's class, or a sampler's name. */
  readonly sampler: string;
  readonly width: number;
  readonly height: number;
  /** The model's folder, file or hub id. */
  readonly model: string;
  readonly clipSkip: number;
  /** The first ten digits of the SHA-256 of the model's file. */
  readonly modelHash?: string;
  /** LoRA weights by name. */
  readonly loras?: Readonly<Record<string, number>>;
  /** The dtype of the UNet's activations, if not f32. */
  readonly activations?: "f16";
  /** The arithmetic of the UNet and the VAE, if not f32. */
  readonly arithmetic?: "f16";
  /** Everything else that drew the picture, for `readPictureSettings()`. */
  readonly exact?: object;
  /** The pairs of the active edits, oldest first; of TIME unless they name another method. */
  readonly edits: readonly {
    readonly source: string;
    readonly destination: string;
    readonly lambda: number;
    readonly method?: string;
    /** What else differs from the method's defaults, in words. */
    readonly options?: readonly string[];
  }[];
}

/**
 * The PNG text entries of a record.
 *
 * ```ts
 * const text = generationText(record);
 * await Deno.writeFile("rose.png", await encodePicture(picture, "png", { text }));
 * ```
 */
export function generationText(record: GenerationRecord): Record<string, string> {
  const { prompt, negativePrompt, edits, clipSkip, modelHash, loras = {} } = record;
  const settings = [
    ["Steps", record.steps],
    ["Sampler", record.sampler],
    ["CFG scale", record.cfgScale],
    ["Seed", record.seed],
    ["Size", `${record.width}x${record.height}`],
    ...(modelHash === undefined ? [] : [["Model hash", modelHash]]),
    ["Model", record.model.split(/[\\/]/).findLast((part) => part !== "") ?? record.model],
    ...(record.activations === undefined ? [] : [["Activations", record.activations]]),
    ...(record.arithmetic === undefined ? [] : [["Arithmetic", record.arithmetic]]),
    // A1111 counts layers from the end (1 is the last); diffusers counts skipped layers.
    ...(clipSkip > 0 ? [["Clip skip", clipSkip + 1]] : []),
    ...(Object.keys(loras).length > 0
      ? [["Loras", JSON.stringify(Object.entries(loras).map(([name, weight]) => `${name}:${weight}`).join(", "))]]
      : []),
    ...(edits.length > 0
      ? [[
        edits.every(({ method = "time" }) => method === "time") ? "TIME edits" : "Edits",
        JSON.stringify(edits.map(editText).join("; ")),
      ]]
      : []),
    ["Version", "Blue Rose"],
  ];
  const parameters = [
    prompt,
    ...(negativePrompt === "" ? [] : [`Negative prompt: ${negativePrompt}`]),
    settings.map(([name, value]) => `${name}: ${value}`).join(", "),
  ].join("\n");
  return { parameters, bluerose: JSON.stringify({ ...record, seed: seedForJson(record.seed) }) };
}

/** A seed as JSON can carry it: a number up to 2⁵³ − 1, beyond it a text of its digits. */
export function seedForJson(seed: number | bigint): number | string {
  return seed <= Number.MAX_SAFE_INTEGER ? Number(seed) : String(seed);
}

function editText({ source, destination, lambda, method, options = [] }: GenerationRecord["edits"][number]): string {
  const settings = [...method === undefined ? [] : [method], `lambda ${lambda}`, ...options];
  return `${source} -> ${destination || '""'} (${settings.join(", ")})`;
}
