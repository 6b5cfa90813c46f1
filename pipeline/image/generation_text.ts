/**
 * What a drawn picture says of itself, as PNG text: `parameters` in the form that A1111's web
 * interface writes and its "PNG Info" and ComfyUI tools read, and the same as JSON under
 * `bluerose`.
 *
 * @module
 */

/** How a picture came to be. */
export interface GenerationRecord {
  readonly prompt: string;
  readonly negativePrompt: string;
  readonly seed: number;
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
  /** The weights of LoRAs by their names. */
  readonly loras?: Readonly<Record<string, number>>;
  /** How the UNet's activations were stored, where that was not f32. */
  readonly activations?: "f16";
  /** The TIME edits at work, oldest first. */
  readonly edits: readonly { readonly source: string; readonly destination: string; readonly lambda: number }[];
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
    // A1111 counts the last layer as 1 where diffusers counts what is left out.
    ...(clipSkip > 0 ? [["Clip skip", clipSkip + 1]] : []),
    ...(Object.keys(loras).length > 0
      ? [["Loras", JSON.stringify(Object.entries(loras).map(([name, weight]) => `${name}:${weight}`).join(", "))]]
      : []),
    ...(edits.length > 0
      ? [[
        "TIME edits",
        JSON.stringify(edits.map((edit) => `${edit.source} -> ${edit.destination} (lambda ${edit.lambda})`).join("; ")),
      ]]
      : []),
    ["Version", "Blue Rose"],
  ];
  const parameters = [
    prompt,
    ...(negativePrompt === "" ? [] : [`Negative prompt: ${negativePrompt}`]),
    settings.map(([name, value]) => `${name}: ${value}`).join(", "),
  ].join("\n");
  return { parameters, bluerose: JSON.stringify(record) };
}
