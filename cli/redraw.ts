/** Draws a picture again from what it says of itself: `bluerose generate --from PICTURE`. */

import { ModelEdit } from "../pipeline/editing/model_edit.ts";
import { type ExactAdapter, factorsDigest } from "../pipeline/generation/exact_settings.ts";
import { type PictureSettings, readPictureSettings } from "../pipeline/generation/picture_settings.ts";
import type { StableDiffusionModelEditingPipeline } from "../pipeline/model_editing.ts";
import { schedulerFromConfig } from "../schedulers/mod.ts";
import { resolveModel } from "./embedded_model.ts";
import { fileDigest, promptLoras } from "./exact_record.ts";
import { InputError } from "./files.ts";
import { modelHash } from "./model_hash.ts";
import { note } from "./printer.ts";

/** A picture to draw again. */
export interface Redraw {
  readonly path: string;
  readonly settings: PictureSettings;
}

/** Reads the settings of `--from`; undefined without the flag. */
export async function redrawOf(path: string | undefined): Promise<Redraw | undefined> {
  return path === undefined ? undefined : { path, settings: await readPictureSettings(path) };
}

/**
 * The flags that the picture stands for. Those that are given on the command line win.
 *
 * @throws {InputError} for a model of the hub, which is not fetched on a picture's word
 */
export async function redrawValues<V extends object>(
  { path, settings }: Redraw,
  values: V,
  given: ReadonlySet<PropertyKey>,
): Promise<V> {
  const { exact } = settings;
  const files = (kind: ExactAdapter["kind"]) => exact.adapters.filter((adapter) => adapter.kind === kind);
  const recorded = {
    prompt: [settings.prompt],
    negativePrompt: settings.negativePrompt,
    seed: settings.seed,
    steps: settings.steps,
    cfgScale: settings.cfgScale,
    width: settings.width,
    height: settings.height,
    clipSkip: settings.clipSkip,
    model: settings.model,
    activations: settings.activations,
    promptSyntax: exact.promptSyntax,
    loraDir: exact.loraDir,
    editNegativePrompt: exact.editNegativePrompt,
    vaeTiling: exact.vaeTiling,
    safetyChecker: exact.safetyChecker,
    variant: exact.variant,
    revision: exact.revision,
    vae: exact.vae,
    tokenizer: exact.tokenizer,
    ema: exact.ema ?? false,
    lora: files("lora").map(({ file, weight }) => `${file}:${weight}`),
    textualInversion: files("textual inversion").map(({ file }) => file),
  };
  const isLocal = await Deno.stat(await resolveModel(settings.model)).then(() => true, () => false);
  if (!given.has("model") && !isLocal) {
    throw new InputError(
      `Cannot draw ${path} again as its model ${
        JSON.stringify(settings.model)
      } is not on this disk: name it by -m MODEL`,
      { path },
    );
  }
  const open = Object.entries(recorded).filter(([name]) => !given.has(name));
  return { ...values, ...Object.fromEntries(open) };
}

/**
 * Checks that model and adapters are those of the picture, except for those that flags replace.
 *
 * @throws {InputError} for another or a missing file
 */
export async function checkFiles(
  { path, settings }: Redraw,
  values: { readonly model: string; readonly revision?: string; readonly variant?: string; readonly loraDir?: string },
  given: ReadonlySet<PropertyKey>,
): Promise<void> {
  const refuse = (what: string) => new InputError(`Cannot draw ${path} again as ${what}`, { path });
  const hash = await modelHash({ ...values, model: await resolveModel(values.model) });
  if (settings.modelHash !== undefined && hash !== undefined && hash !== settings.modelHash) {
    throw refuse(
      `the model ${values.model} has the hash ${hash} and the picture's has ${settings.modelHash}: name its model by -m`,
    );
  }
  const { exact, prompt } = settings;
  for (const { kind, file, sha256 } of exact.adapters) {
    const flag = kind === "lora" ? "lora" : "textualInversion";
    if (kind === "prompt lora" || given.has(flag)) continue;
    const actual = await fileDigest(file);
    if (actual === undefined) throw refuse(`its ${kind} ${file} is not on this disk: put it there, or name another`);
    if (sha256 !== undefined && actual !== sha256) throw refuse(`its ${kind} ${file} has changed since it was drawn`);
  }
  if (given.has("prompt") || given.has("loraDir")) return;
  const wanted = exact.adapters.filter(({ kind }) => kind === "prompt lora");
  const found = await promptLoras(prompt, { promptSyntax: exact.promptSyntax, loraDir: values.loraDir });
  for (const [i, { file, sha256 }] of wanted.entries()) {
    if (found[i]?.sha256 !== sha256) throw refuse(`the LoRA ${file} that its prompt names has changed or is missing`);
  }
}

/**
 * Gives the pipeline the picture's sampler and edits, except for those that flags replace.
 *
 * @returns the edits, for the caller to dispose of
 * @throws {InputError} when an edit that is solved again differs from the picture's
 */
export async function applyRedraw(
  { path, settings: { exact } }: Redraw,
  pipe: StableDiffusionModelEditingPipeline,
  given: ReadonlySet<PropertyKey>,
): Promise<ModelEdit[]> {
  if (pipe.gpu.info.name !== exact.device) {
    note(`${path} was drawn on ${exact.device}: pixels may differ on ${pipe.gpu.info.name}`);
  }
  if (!given.has("samplingMethod")) pipe.scheduler = schedulerFromConfig(exact.scheduler);
  const edits: ModelEdit[] = [];
  if (given.has("edit")) return edits;
  for (const { recipe, strength, route, precision, sha256 } of exact.edits) {
    const { pairs, layers, ...options } = recipe;
    const edit = await ModelEdit.solve(pairs, { ...options, layers: layers ?? undefined, route, precision }, pipe);
    edits.push(edit);
    if (await factorsDigest(edit.operator.factors) !== sha256 && pipe.gpu.info.name === exact.device) {
      for (const each of edits) each[Symbol.dispose]();
      throw new InputError(
        `Cannot draw ${path} again as its edit of ${JSON.stringify(pairs[0].source)} solves to other values here: ` +
          "apply the saved edit by --edit FILE",
        { path },
      );
    }
    pipe.edits.push(edit, { strength });
  }
  return edits;
}
