/**
 * What the text in a picture says of it, for `bluerose inspect`. Anybody may have written it: what
 * is not of the expected kind is left out, or shown as it is.
 *
 * @module
 */
import * as v from "valibot";
import { contentOfSheet } from "../pipeline/generation/sheet_content.ts";
import { fields, type Schema } from "../pipeline/schema.ts";
import { brokenWords, terminalWidth, wrap } from "./terminal.ts";

/** A label, and what stands beside it. */
type Row = readonly [label: string, text: string];

/** The most characters of a text that are shown: ComfyUI's workflows have many thousands. */
const mostCharacters = 2000;

/**
 * The lines that tell how a picture was drawn.
 *
 * @param text by keyword
 * @param path the file, to draw it again
 */
export function pictureLines(text: Readonly<Record<string, string>>, path: string): string[] {
  const { bluerose, parameters, ...others } = text;
  const record = bluerose === undefined ? undefined : recordOf(bluerose);
  const rows: Row[] = [
    ...record ? rowsOf(record, path) : givenRows(Object.entries({ bluerose, parameters })),
    ...Object.entries(others),
  ];
  if (rows.length === 0) return ["it holds no text that tells how it was drawn"];
  const labelWidth = Math.min(20, Math.max(...rows.map(([label]) => label.length)));
  const width = terminalWidth() - labelWidth - 4;
  return rows.flatMap(([label, text]) =>
    brokenWords(cut(text), width).split("\n").flatMap((line) => wrap(line, width)).map((line, i) =>
      `${(i === 0 ? label : "").padEnd(labelWidth)}  ${line}`.trimEnd()
    )
  );
}

/** A text, cut where it is long. */
function cut(text: string): string {
  const rest = text.length - mostCharacters;
  return rest > 0 ? `${text.slice(0, mostCharacters)}… and ${rest} more characters (--json)` : text;
}

const number: Schema<string> = v.pipe(v.union([v.number(), v.string()]), v.transform(String));

const axis = fields({ name: v.string(), values: maybe(v.array(number)) });

/** What a record may hold; fields of another kind read as absent. */
const recordSchema = fields({
  prompt: maybe(v.string()),
  negativePrompt: maybe(v.string()),
  seed: maybe(number),
  steps: maybe(number),
  sampler: maybe(v.string()),
  cfgScale: maybe(number),
  width: maybe(number),
  height: maybe(number),
  clipSkip: maybe(v.number()),
  model: maybe(v.string()),
  modelHash: maybe(v.string()),
  activations: maybe(v.string()),
  arithmetic: maybe(v.string()),
  loras: maybe(v.record(v.string(), number)),
  edits: maybe(v.array(fields({
    source: v.string(),
    destination: v.string(),
    lambda: number,
    method: maybe(v.string()),
    options: maybe(v.array(v.string())),
  }))),
  pictures: maybe(v.array(fields({ seed: number }))),
  grid: maybe(fields({ x: axis, y: maybe(axis) })),
  exact: maybe(fields({
    version: v.string(),
    device: v.string(),
    adapters: maybe(v.array(fields({ kind: v.string(), file: v.string(), weight: number }))),
    xl: maybe(fields({ prompt2: maybe(v.string()), negativePrompt2: maybe(v.string()) })),
  })),
});

type PictureRecord = v.InferOutput<typeof recordSchema> & { readonly sheet?: string };

function recordOf(json: string): PictureRecord | undefined {
  let value: unknown;
  try {
    value = JSON.parse(json);
  } catch {
    return undefined;
  }
  const result = v.safeParse(recordSchema, value);
  if (!result.success || Object.values(result.output).every((field) => field === undefined)) return undefined;
  // what it is, without examples and advice
  const sheet = contentOfSheet(value as object)?.replace(/^it (is|shows) /, "").replace(/( \(|: ).*$/s, "");
  return { ...result.output, sheet };
}

function rowsOf(record: PictureRecord, path: string): Row[] {
  const { prompt, negativePrompt, steps, sampler, cfgScale, width, height, model, modelHash, exact } = record;
  const { clipSkip, loras = {}, edits = [], pictures = [], grid, sheet } = record;
  const axes = [grid?.x, grid?.y].filter((axis) => axis !== undefined);
  const isVaried = (label: string) => axes.some(({ name }) => name === label);
  const seeds = new Set(pictures.map(({ seed }) => seed));
  const adapters = exact?.adapters ??
    Object.entries(loras).map(([file, weight]) => ({ kind: "lora", file, weight }));
  const rows = givenRows([
    ["shows", sheet],
    ...axes.map(({ name, values = [] }) => [name, values.join(", ")] as const),
    ["prompt", prompt],
    ["prompt 2", exact?.xl?.prompt2],
    ["negative prompt", negativePrompt || undefined],
    ["negative prompt 2", exact?.xl?.negativePrompt2],
    [seeds.size > 1 ? "seeds" : "seed", seeds.size > 0 ? [...seeds].join(", ") : record.seed],
    ["steps", steps],
    ["sampler", sampler],
    ["guidance", cfgScale],
    ["size", width && height && `${width} × ${height}${sheet === undefined ? "" : " each"}`],
    ["clip skip", clipSkip ? String(clipSkip) : undefined],
    ["model", model && `${model}${modelHash === undefined ? "" : `, hash ${modelHash}`}`],
    ...adapters.map(({ kind, file, weight }) =>
      kind === "textual inversion"
        ? [kind, file] as const
        : [kind.replace("lora", "LoRA"), `${file}, weight ${weight}`] as const
    ),
    ...edits.map(({ source, destination, lambda, method, options = [] }) =>
      [
        "edit",
        `${JSON.stringify(source)} -> ${JSON.stringify(destination)}, ` +
        [...method === undefined ? [] : [method], `lambda ${lambda}`, ...options].join(", "),
      ] as const
    ),
    ["activations", record.activations],
    ["arithmetic", record.arithmetic],
    ["drawn by", exact && `Blue Rose ${exact.version} on ${exact.device}`],
    ["draw again", exact && sheet === undefined ? `bluerose generate --from ${quoted(path)}` : undefined],
  ]);
  const head = (sheet === undefined ? 0 : 1) + axes.length;
  // the settings of a grid's axes are those of no cell
  return rows.filter(([label], i) => i < head || !isVaried(label));
}

function givenRows(rows: readonly (readonly [label: string, text: string | undefined])[]): Row[] {
  return rows.filter((row): row is Row => row[1] !== undefined);
}

/** A path as a shell reads it. */
function quoted(path: string): string {
  return /^[\w./:@%+=,-]+$/.test(path) ? path : `'${path.replaceAll("'", "'\\''")}'`;
}

function maybe<T>(schema: Schema<T>): Schema<T | undefined> {
  return v.fallback(v.optional(schema), undefined);
}
