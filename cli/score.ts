import type { Gpu } from "../engine/gpu.ts";
import { openTunedGpu } from "../pipeline/tuning_file.ts";
import { ImageError } from "../pipeline/image/errors.ts";
import { decodePicture, type Picture } from "../pipeline/image/picture.ts";
import { CLIPModel } from "../pipeline/models/clip.ts";
import { type Command, defineCommand } from "./command.ts";
import { embeddedClip, resolveModel } from "./embedded_model.ts";
import { inputBytes } from "./input_bytes.ts";
import { printMode, say, sayJson } from "./printer.ts";
import { showProgress } from "./progress.ts";

/** The scores of one picture; `prompts` in the order of the command line. */
interface Score {
  readonly image: string;
  readonly best: string;
  readonly bestIndex: number;
  /** `share` is the softmax of the logits over the prompts. */
  readonly prompts: readonly { readonly prompt: string; readonly logit: number; readonly share: number }[];
}

/** `bluerose score`: compares pictures with prompts. */
export const command: Command = defineCommand({
  name: "score",
  summary: "rank prompts by how well they fit a picture",
  usage: "IMAGES… --prompts PROMPT… [flags]",
  details: [
    "Compares pictures with prompts using a CLIP model. Each line shows a prompt's share (softmax over the given prompts),",
    "its logit (comparable between pictures) and the prompt; * marks the best.",
  ].join(" "),
  positionals: {
    placeholder: "IMAGES",
    min: 1,
    max: Infinity,
    access: { kind: "read", purpose: "read the pictures" },
  },
  rewrite: (args) => repeatFlag(args, "--prompts"),
  flags: {
    prompts: {
      kind: "texts",
      alias: ["p", "prompt"],
      placeholder: "PROMPT…",
      required: true,
      help: "prompts to compare with; takes all arguments up to the next flag",
    },
    model: {
      kind: "text",
      alias: "m",
      placeholder: "DIR",
      default: embeddedClip,
      help: "CLIP model: a folder in transformers' layout",
    },
    variant: { kind: "text", help: 'variant of the weight files; "fp16" for half precision' },
  },
  examples: [
    {
      line: 'score before.png after.png --prompts "a red rose" "a blue rose"',
      says: "the effect of an edit, judged by the embedded CLIP model",
    },
    { line: 'score *.png --prompts "a cat" "a dog" --json', says: "machine-readable scores" },
  ],
  async run({ prompts, model, variant }, { positionals }) {
    const pictures = await Promise.all(positionals.map(readPicture));
    using gpu = await openTunedGpu();
    using clip = await openClip(gpu, await resolveModel(model), variant);
    const logits = await clip.score(pictures, prompts); // [images, prompts]
    const scores = positionals.map((image, i) =>
      scoreOf(image, prompts, logits.subarray(i * prompts.length, (i + 1) * prompts.length))
    );
    if (printMode().json) sayJson(scores);
    else say(scores.map(table).join("\n\n"));
  },
});

/**
 * Rewrites `--flag A B` as `--flag A --flag B`: all arguments up to the next flag become values of
 * the flag.
 */
export function repeatFlag(args: readonly string[], flag: string): string[] {
  const result: string[] = [];
  let isInside = false;
  for (const argument of args) {
    if (argument.startsWith("--") || /^-[^\d.]/.test(argument)) isInside = argument === flag;
    else if (isInside && result.at(-1) !== flag) result.push(flag);
    result.push(argument);
  }
  return result;
}

async function readPicture(path: string): Promise<Picture> {
  let bytes: Uint8Array;
  try {
    bytes = await inputBytes(path);
  } catch (cause) {
    throw new ImageError(
      cause instanceof Deno.errors.NotFound
        ? `Cannot score ${path} as the file does not exist`
        : `Cannot score ${path} as it cannot be read: ${(cause as Error).message}`,
      { cause },
    );
  }
  try {
    return await decodePicture(bytes);
  } catch (cause) {
    const { message } = cause as Error;
    throw new ImageError(`Cannot score ${path}: ${message.replace(/^C/, "c")}`, { cause });
  }
}

async function openClip(gpu: Gpu, model: string, variant?: string): Promise<CLIPModel> {
  using bar = showProgress("loading", { total: 1, unit: "bytes" });
  return await CLIPModel.fromPretrained(model, { gpu, variant, onProgress: (done, total) => bar.set(done, { total }) });
}

function scoreOf(image: string, prompts: readonly string[], logits: Float32Array): Score {
  const largest = Math.max(...logits);
  const bestIndex = logits.indexOf(largest);
  const powers = Array.from(logits, (logit) => Math.exp(logit - largest));
  const sum = powers.reduce((sum, power) => sum + power, 0);
  return {
    image,
    best: prompts[bestIndex],
    bestIndex,
    prompts: prompts.map((prompt, i) => ({ prompt, logit: logits[i], share: powers[i] / sum })),
  };
}

function table({ image, bestIndex, prompts }: Score): string {
  const lines = prompts.map(({ prompt, logit, share }, i) =>
    `${i === bestIndex ? "*" : " "} ${(100 * share).toFixed(1).padStart(5)} %  ${
      logit.toFixed(2).padStart(7)
    }  ${prompt}`
  );
  return [image, "    share    logit  prompt", ...lines].join("\n");
}
