/**
 * The library's options as the command line's flags, for messages that both show.
 *
 * @module
 */

/** What the library's messages advise, and how the command line says it. Phrases come first. */
const flagsOfOptions: readonly (readonly [option: RegExp, flag: string])[] = [
  [/load the model that it belongs to and call loadLoraWeights\(\)/g, "give it with --lora, beside the model of -m"],
  [
    /load the model that it belongs to and call loadTextualInversion\(\)/g,
    "give it with --textual-inversion, beside the model of -m",
  ],
  [/\b(?:pass|give|set|with) safetyChecker: null/g, "give --no-safety-checker"],
  [/\bset the option tokenizer to\b/g, "give --tokenizer"],
  [/\bSet anyModel\b/g, "Add --any-model"],
  [/\bset loraDir\b/g, "give --lora-dir"],
  [/: name one by weightName\b/g, ": name one of them"],
  [/\botherwise set the pair's alignment/g, "otherwise give the pair with an alignment in a --pairs file"],
  [/(choose another (?:place|name|folder|file)), or overwrite\b/g, "$1, or add --overwrite"],
  [/\b(?:set|pass|give|with) overwrite(?:: true)?(?=[\s.,;:)]|$)/g, "add --overwrite"],
  [/\bsafetyChecker: null/g, "--no-safety-checker"],
  [/\blocalFilesOnly(?:: true)?/g, "--offline"],
  [/\banyModel\b/g, "--any-model"],
  [/\bclipSkip\b/g, "--clip-skip"],
  [/\bnumInferenceSteps\b/g, "--steps"],
  [/\bguidanceScale\b/g, "--cfg-scale"],
  [/\bnumImagesPerPrompt\b/g, "--batch-count"],
  [/\bnegativePrompt\b/g, "--negative-prompt"],
  [/\bpromptSyntax\b/g, "--prompt-syntax"],
  [/\bpredictionType\b/g, "--prediction-type"],
  [/\bloraDir\b/g, "--lora-dir"],
  [/\bpreserveWeight\b/g, "--preserve-weight"],
  [/\blamb\b/g, "--lambda"],
];

/** A message of the library in terms of the command line. */
export function inFlags(message: string): string {
  return flagsOfOptions.reduce((text, [option, flag]) => text.replace(option, flag), message);
}
