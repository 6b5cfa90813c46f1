import { NoAdapterError } from "../engine/errors.ts";
import { byteText } from "../engine/inspect.ts";
import type { Gpu } from "../engine/gpu.ts";
import { openTunedGpu } from "../pipeline/tuning_file.ts";
import { openHub } from "../pipeline/checkpoint/hub/hub.ts";
import { mayBeHubId } from "../pipeline/checkpoint/source/model_source.ts";
import { repairFolder } from "../pipeline/output/folder.ts";
import { infoAt } from "../pipeline/output/paths.ts";
import { CheckpointError } from "../pipeline/errors.ts";
import { ImageError } from "../pipeline/image/errors.ts";
import { formatOfStart, readPictureText } from "../pipeline/image/picture_text.ts";
import {
  type AdapterOptions,
  type AskedMemory,
  inspectFile,
  inspectFolder,
  type Inspection,
  type MemoryOptions,
  modelConfigsOf,
  type PartInspection,
  type Probe,
  probeOf,
  problemsOf,
} from "../pipeline/inspection.ts";
import { configBeside } from "../pipeline/adapters/open_adapter.ts";
import { directoryTree, fileSource } from "../pipeline/checkpoint/source/disk.ts";
import { type Command, defineCommand } from "./command.ts";
import { resolveModel } from "./embedded_model.ts";
import { ArgumentError } from "./argument_error.ts";
import { bytesOf, InputError } from "./files.ts";
import { modelFlags, samplingFlags } from "./flags.ts";
import { inFlags } from "./option_flags.ts";
import { memoryLines } from "./memory_lines.ts";
import { pictureLines } from "./picture_report.ts";
import { printMode, say, sayJson } from "./printer.ts";

/** `bluerose inspect`: describes model files and lists what keeps them from loading. */
export const command: Command = defineCommand({
  name: "inspect",
  summary: "describe a model file or folder, and list what keeps it from loading",
  usage: "DIR|FILE|OWNER/NAME… [flags]",
  details: "Reads configurations and headers, and the tensors of adapters and edits alone; needs no GPU. " +
    "Folders, also those of the hub's cache by OWNER/NAME: pipelines in diffusers' layout, their components, CLIP models, LoRAs. " +
    "Files: .safetensors checkpoints, LoRAs, textual inversions, edits; PNG and JPEG pictures, which tell how they were drawn. " +
    "For models, it predicts the memory that a guided call takes on this machine's device, or on a typical GPU where there is none. " +
    "The exit code is 1 when something would not load.",
  positionals: {
    placeholder: "DIR|FILE",
    min: 1,
    max: Infinity,
    access: { kind: "read", purpose: "read what is to be described" },
  },
  flags: {
    variant: { kind: "text", help: 'variant of the weight files; "fp16" for half precision' },
    model: {
      kind: "text",
      alias: "m",
      placeholder: "DIR|FILE",
      help:
        "model to hold LoRAs, textual inversions and edits against; the text encoders of a folder, which are loaded, " +
        "tell whether an edit was solved with them (default: Stable Diffusion 1.x, 2.x and XL, for LoRAs)",
      access: { kind: "read", purpose: "read the model" },
    },
    memory: { kind: "switch", default: true, group: "Memory", help: "predict the memory that drawing takes" },
    width: { ...samplingFlags.width, group: "Memory" },
    height: { ...samplingFlags.height, group: "Memory" },
    batchSize: { ...samplingFlags.batchSize, default: 1, group: "Memory", help: "pictures that are drawn at once" },
    activations: { ...modelFlags.activations, group: "Memory" },
    vaeTiling: { ...samplingFlags.vaeTiling, group: "Memory" },
  },
  examples: [
    { line: "inspect models/pocket", says: "the embedded model, component by component" },
    { line: "inspect sdxl-base -W 1024 -H 1024 --activations f16", says: "the memory that such a picture takes" },
    { line: "inspect -m models/pocket blue.safetensors", says: "whether an edit or a LoRA fits a model" },
    { line: "inspect downloads/*.safetensors --json", says: "machine-readable descriptions" },
  ],
  async run({ variant, model: given, memory: isAsked, ...drawing }, { positionals }) {
    const held = given === undefined ? {} : await heldAgainst(given, variant);
    const inspections: (Inspection | InspectedPicture)[] = [];
    const { width, height, batchSize: images, activations, vaeTiling } = drawing;
    let device: ReturnType<typeof thisDevice> | undefined; // opened for models alone, and once
    const asked = async () => ({
      ...{ width, height, images, activations, tiling: vaeTiling || undefined },
      device: await (device ??= thisDevice()),
    });
    const memory = isAsked ? asked : undefined;
    for (const path of positionals) {
      try {
        inspections.push(await inspect(path, { variant, ...held, memory }));
      } catch (error) {
        // one of several that cannot be read is no reason to say nothing of the others
        if (positionals.length === 1 || !(error instanceof CheckpointError || error instanceof InputError)) throw error;
        const unreadable = { description: "cannot be read", parts: [], notes: [] };
        inspections.push({ ...unreadable, name: path, problems: [error.message] });
      }
    }
    if (printMode().json) sayJson(inspections.map(withoutText));
    else say(inspections.map(report).join("\n\n"));
    const broken = inspections.filter((inspection) => problemsOf(inspection).length > 0);
    if (broken.length === 0) return;
    throw new CheckpointError(
      `${broken.length} of ${inspections.length} would not load: ${broken.map(({ name }) => name).join(", ")}`,
      { source: broken[0].name },
    );
  },
});

/** The inspection of a picture, whose notes are the texts in it. */
interface InspectedPicture extends Inspection {
  /** The same by keyword. */
  readonly text: Readonly<Record<string, string>>;
}

/** An inspection as --json prints it. */
function withoutText(inspection: Inspection | InspectedPicture): Inspection {
  return "text" in inspection ? { ...inspection, text: undefined } as Inspection : inspection;
}

type HeldAgainst = Pick<AdapterOptions, "model" | "probe">;

/** The model of --model: a folder, a single file, or one of the hub's cache. */
async function heldAgainst(given: string, variant: string | undefined): Promise<HeldAgainst> {
  if (given.trim() === "") {
    throw new ArgumentError('Cannot use --model "": it takes a folder, a file or OWNER/NAME', { argument: "--model" });
  }
  const path = await resolveModel(given);
  const found = await infoAt(path);
  if (found?.isFile) return { model: await modelConfigsOf(await fileSource(path)) };
  const isCached = found === undefined && await mayBeHubId(path);
  const tree = isCached ? await openHub(path, { localFilesOnly: true }) : await directoryTree(path);
  let probe: Promise<Probe | undefined> | undefined; // made for edits alone, and once
  return {
    model: await modelConfigsOf(tree),
    probe: () => probe ??= onThisDevice((gpu) => probeOf(tree, { gpu, variant })),
  };
}

/** What is known of this machine's device; undefined where there is none. */
function thisDevice(): Promise<MemoryOptions["device"]> {
  return onThisDevice(({ info, options }) => ({ info, options }));
}

/** Uses this machine's device; undefined where there is none. */
async function onThisDevice<T>(use: (gpu: Gpu) => T | Promise<T>): Promise<T | undefined> {
  try {
    using gpu = await openTunedGpu({});
    return await use(gpu);
  } catch (error) {
    if (error instanceof NoAdapterError) return undefined;
    throw error;
  }
}

async function inspect(
  given: string,
  { variant, memory, ...held }: { variant?: string; memory?: AskedMemory } & HeldAgainst,
): Promise<Inspection | InspectedPicture> {
  const path = await resolveModel(given);
  await repairFolder(path);
  const found = await infoAt(path);
  if (found === undefined) {
    if (!await mayBeHubId(path)) await fileSource(path); // says what is wrong, and suggests a name
    return await inspectFolder(await openHub(path, { localFilesOnly: true }), { variant, ...held, memory });
  }
  if (found.isDirectory) return await inspectFolder(await directoryTree(path), { variant, ...held, memory });
  if (!await isPicture(path, found)) {
    return await inspectFile(await fileSource(path), {
      adapterConfig: (weights) => configBeside(path, weights),
      ...held,
      memory,
    });
  }
  const picture = { name: path, description: "a picture", parts: [], problems: [], notes: [] };
  try {
    const text = await readPictureText(await bytesOf(path, "the picture"));
    return { ...picture, notes: Object.entries(text).map(([keyword, value]) => `${keyword}: ${value}`), text };
  } catch (error) {
    if (error instanceof ImageError) return { ...picture, problems: [error.message] };
    throw error;
  }
}

/** Whether a file is a PNG or JPEG picture: by its content, or its name where it is a pipe. */
async function isPicture(path: string, { isFile }: { readonly isFile: boolean }): Promise<boolean> {
  if (!isFile) return /\.(png|jpe?g)$/i.test(path);
  const source = await fileSource(path);
  try {
    return formatOfStart(await source.read(0, Math.min(source.size, 4))) !== undefined;
  } finally {
    source.close?.();
  }
}

function report(inspection: Inspection | InspectedPicture): string {
  const { name, description, parts, problems, memory } = inspection;
  const notes = "text" in inspection ? pictureLines(inspection.text, name) : inspection.notes;
  const width = Math.max(0, ...parts.map(({ part }) => part.length));
  return [
    `${name}: ${description}`,
    ...parts.map((part) => `  ${width === 0 ? "" : `${part.part.padEnd(width)}  `}${partLine(part)}`.trimEnd()),
    ...notes.map((note) => `  ${note.replaceAll("\n", "\n  ")}`),
    ...(memory === undefined ? [] : memoryLines(memory).map((line) => `  ${line}`)),
    ...problemsOf({ ...inspection, problems }).map((problem) => `  ✗ ${inFlags(problem).replaceAll("\n", "\n    ")}`),
    ...(problemsOf(inspection).length === 0 && description !== "a picture" ? ["  would load"] : []),
  ].join("\n");
}

function partLine({ kind, bytes, parameters, dtypes, variants }: PartInspection): string {
  const types = Object.entries(dtypes).sort(([, a], [, b]) => b - a).map(([type, count]) =>
    Object.keys(dtypes).length === 1 ? type : `${type} ${(100 * count / parameters).toFixed(1)} %`
  );
  return [
    kind,
    ...(parameters > 0 ? [`${parameters.toLocaleString("en")} parameters`, types.join(" + "), byteText(bytes)] : []),
    ...(variants.length > 1 ? [`variants: ${variants.join(", ")}`] : []),
  ].filter((text) => text !== "").join(", ");
}
