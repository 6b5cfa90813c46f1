/**
 * Evaluations of edits by pictures that CLIP judges: their flags, and what they do around the
 * drawing.
 *
 * @module
 */
import type { EditingPipeline } from "../pipeline/editing_pipeline.ts";
import { CLIPModel } from "../pipeline/models/clip.ts";
import { evaluationFlags, pocket } from "./evaluation_flags.ts";
import type { Flags, Values } from "./flag_types.ts";
import { giveJson, PartialJson } from "./json_file.ts";
import { openPipeline } from "./open_pipeline.ts";
import { say } from "./printer.ts";

/** Flags of `bluerose evaluate edits` and `bluerose evaluate editors`. */
export const judgedFlags = {
  ...evaluationFlags,
  clip: {
    kind: "text",
    placeholder: "DIR",
    default: `${pocket}/clip`,
    defaultText: "the embedded model's",
    help: "folder of the CLIP model that scores the pictures",
  },
  edits: { kind: "whole", min: 1, defaultText: "all", help: "use only this many edits" },
  related: { kind: "whole", min: 0, default: 2, help: "related prompts of each edit" },
  unrelated: { kind: "whole", min: 0, default: 3, help: "unrelated prompts of each edit" },
} as const satisfies Flags;

type JudgedValues = Values<typeof judgedFlags>;

/** How the pictures of an evaluation are drawn, in the library's words. */
export function drawingOfFlags({ seeds, seed: firstSeed, steps, cfgScale: guidance, batchSize }: JudgedValues) {
  return { seeds, firstSeed, steps, guidance, batchSize };
}

/** What an evaluation draws with, and how it keeps its result. */
interface Judged {
  readonly pipe: EditingPipeline;
  readonly clip: CLIPModel;
  /** Keeps what there is of the result, for a command that fails. */
  readonly keepPartial: (result: Record<string, unknown>) => Promise<void>;
}

/**
 * Opens the model and its judge, evaluates, says how long it took and gives the result as --json
 * asks.
 *
 * @param settings what the result records of the flags, in addition to the models and the drawing
 */
export async function runJudged(
  values: JudgedValues,
  { total, settings: given }: { total: number; settings: Record<string, unknown> },
  evaluate: (judged: Judged) => Promise<Record<string, unknown>>,
): Promise<void> {
  const { batchSize: _, ...drawing } = drawingOfFlags(values);
  const settings = { model: values.model, clip: values.clip, ...given, ...drawing };
  using pipe = await openPipeline(values);
  using clip = await CLIPModel.fromPretrained(values.clip, { gpu: pipe.gpu });
  const partial = new PartialJson(values.json);
  const start = performance.now();
  const result = await evaluate({
    pipe,
    clip,
    keepPartial: (result) => partial.write({ settings, ...result }),
  });
  const seconds = (performance.now() - start) / 1000;
  say(`\n${seconds.toFixed(0)} s, ${(seconds / total).toFixed(2)} s a picture`);
  await giveJson(values.json, { settings, ...result });
  await partial.remove();
}
