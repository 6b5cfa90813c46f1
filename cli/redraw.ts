/** Draws a picture again from what it says of itself: `bluerose generate --from PICTURE`. */

import { ModelEdit } from "../pipeline/editing/model_edit.ts";
import { editDigest, type ExactAdapter, type ExactComponent } from "../pipeline/generation/exact_settings.ts";
import { type PictureSettings, readPictureSettings } from "../pipeline/generation/picture_settings.ts";
import { exists } from "../pipeline/output/paths.ts";
import type { EditingPipeline } from "../pipeline/editing_pipeline.ts";
import { schedulerFromConfig } from "../schedulers/mod.ts";
import { resolveModel } from "./embedded_model.ts";
import { digestOf } from "./digest.ts";
import { promptLoras } from "./exact_record.ts";
import { xlValues } from "./xl_flags.ts";
import { InputError } from "./files.ts";
import { interruptSignal } from "./interrupt.ts";
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
  const component = (name: ExactComponent["name"]) => exact.components?.find((each) => each.name === name)?.file;
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
    ...xlValues(exact.xl),
    arithmetic: settings.arithmetic,
    promptSyntax: exact.promptSyntax,
    loraDir: exact.loraDir,
    editNegativePrompt: exact.editNegativePrompt,
    vaeTiling: exact.vaeTiling,
    safetyChecker: exact.safetyChecker,
    vae: component("vae"),
    tokenizer: component("tokenizer"),
    // These belong to the model's files. They are on this disk, where no revision applies.
    ...(given.has("model") ? {} : {
      variant: exact.variant,
      predictionType: exact.predictionType,
      ema: exact.ema ?? false,
    }),
    lora: files("lora").map(({ file, weight }) => `${file}:${weight}`),
    textualInversion: files("textual inversion").map(({ file }) => file),
  };
  const isLocal = await exists(await resolveModel(settings.model));
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
  const check = async (
    what: string,
    flag: string,
    { file, sha256 }: { file: string; sha256?: string },
    part?: string,
  ) => {
    const actual = await digestOf(file, part);
    if (actual === undefined) throw refuse(`its ${what} ${file} is not on this disk: put it there, or give ${flag}`);
    if (sha256 === undefined || actual === sha256) return;
    throw refuse(`its ${what} ${file} has changed since it was drawn: put the former back, or give ${flag}`);
  };
  for (const component of exact.components ?? []) {
    const { name } = component;
    if (!given.has(name)) await check(name === "vae" ? "autoencoder" : name, `--${name}`, component, name);
  }
  for (const adapter of exact.adapters) {
    if (adapter.kind === "prompt lora") continue;
    const [name, flag] = adapter.kind === "lora" ? ["lora", "--lora"] : ["textualInversion", "--textual-inversion"];
    if (!given.has(name)) await check(adapter.kind, flag, adapter);
  }
  if (given.has("prompt") || given.has("loraDir")) return;
  const wanted = exact.adapters.filter(({ kind }) => kind === "prompt lora");
  const found = await promptLoras(prompt, { promptSyntax: exact.promptSyntax, loraDir: values.loraDir });
  for (const [i, { file, sha256 }] of wanted.entries()) {
    if (found[i]?.sha256 !== sha256) throw refuse(`the LoRA ${file} that its prompt names has changed or is missing`);
  }
}

/**
 * Gives the pipeline the picture's sampler, unless --sampling-method replaces it. What the UNet
 * predicts is the flag's or another model's own, where those are given.
 */
export function applyScheduler(
  { settings: { exact } }: Redraw,
  pipe: EditingPipeline,
  given: ReadonlySet<PropertyKey>,
): void {
  if (given.has("samplingMethod")) return;
  const { prediction_type } = given.has("model") || given.has("predictionType")
    ? pipe.scheduler.config
    : exact.scheduler;
  pipe.scheduler = schedulerFromConfig({ ...exact.scheduler, prediction_type });
}

/** Flags that change what the text encoder makes of an edit's prompts. */
const encodingFlags = ["model", "tokenizer", "lora", "textualInversion"];

/**
 * Gives the pipeline the picture's edits, unless --edit replaces them.
 *
 * @returns the edits, for the caller to dispose of
 * @throws {InputError} when an edit that is solved again differs from the picture's
 */
export async function applyRedraw(
  { path, settings: { exact } }: Redraw,
  pipe: EditingPipeline,
  given: ReadonlySet<PropertyKey>,
): Promise<ModelEdit[]> {
  if (pipe.gpu.info.name !== exact.device) {
    note(`${path} was drawn on ${exact.device}: pixels may differ on ${pipe.gpu.info.name}`);
  }
  const mustAgree = pipe.gpu.info.name === exact.device && !encodingFlags.some((name) => given.has(name));
  const edits: ModelEdit[] = [];
  if (given.has("edit")) return edits;
  for (const { recipe, strength, route, precision, sha256 } of exact.edits) {
    const { pairs, layers, ...options } = recipe;
    const edit = await ModelEdit.solve(pairs, {
      ...options,
      layers: layers ?? undefined,
      route,
      precision,
      signal: interruptSignal(),
    }, pipe);
    edits.push(edit);
    if (mustAgree && await editDigest(edit) !== sha256) {
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
