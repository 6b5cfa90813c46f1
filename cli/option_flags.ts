/**
 * The library's options as the command line's flags, for messages that both show.
 *
 * @module
 */

import { kebab } from "./flag_types.ts";

/** Options whose flags have their names. */
const namesakes = [
  ...["anyModel", "anyVersion", "loraDir", "predictionType", "promptSyntax", "safetyChecker", "vaeTiling"],
  ...["clipSkip", "editNegativePrompt", "negativePrompt", "samplingMethod"],
  ...["prompt2", "negativePrompt2", "originalSize", "targetSize", "negativeOriginalSize", "negativeTargetSize"],
  ...["guidanceRescale", "denoisingEnd"],
  ...["withPooled", "preserveWeight", "eraseScale", "preserveScale", "retainScale", "influenceFilter", "augmentRank"],
];

/** Options whose flags have other names. */
const renamed: Readonly<Record<string, string>> = {
  numInferenceSteps: "--steps",
  guidanceScale: "--cfg-scale",
  numImagesPerPrompt: "--batch-count",
  cropsCoordsTopLeft: "--crop",
  negativeCropsCoordsTopLeft: "--negative-crop",
};

/**
 * Names of options that messages mention, and the flags for them. Whole advice is worded by
 * `pipeline/advice.ts`. Phrases come first.
 */
const flagsOfOptions: readonly (readonly [option: RegExp, flag: string])[] = [
  [/\bset loraDir\b/g, "give --lora-dir"],
  [/: name one by weightName\b/g, ": name one of them"],
  [
    /\(ModelEdit\.solve\(\) with tokens: "last" or method: "uce"\), or set the pair's alignment/g,
    "(--tokens last or --method uce), or give the pair with an alignment in a --pairs file",
  ],
  [/\bgive the edit's source and destination prompts\b/g, "give --source and --destination"],
  [/\bor name the number of shards\b/g, "or give --shards"],
  [/\bGive retained prompts for all rows\b/g, "Give --preserve-file"],
  [/\bchoose another name for output\b/g, "choose another folder for --results"],
  [/\bchoose another name for partition\b/g, "choose another --partition"],
  [/\bCannot use (tokens|threshold|invariant|augment|preserve) without an edit\b/g, "Cannot use --$1 without an edit"],
  [/\barithmetic: "(f32|f16)"/g, "--arithmetic $1"],
  [/\b(with|or) augment\b/g, "$1 --augment"],
  [/\b(with|raise|lower) threshold\b/gi, "$1 --threshold"],
  [/\b(with|leave|set) tokens\b/gi, "$1 --tokens"],
  [/\bset preserve to\b/g, "preserve by --preserve"],
  [/\bSet preserve to\b/g, "Preserve by --preserve"],
  [/: preserve has\b/g, ": --preserve has"],
  [/(?<!\.)\blamb\b/g, "--lambda"], // "settings[0].editor.lamb" is a place in a file
];

/** An option's name, but not in a path, a tensor's key or a place in a file ("editor.lamb"). */
const optionName = new RegExp(
  `(?<![\\w./\\\\-])(${[...namesakes, ...Object.keys(renamed)].join("|")})(?![\\w/\\\\-]|\\.\\w)`,
  "g",
);

/** A message of the library in terms of the command line. */
export function inFlags(message: string): string {
  const text = flagsOfOptions.reduce((text, [option, flag]) => text.replace(option, flag), message);
  return text.replace(optionName, (name) => renamed[name] ?? `--${kebab(name)}`);
}
