/**
 * Advice in messages, in the words of the front end that prints them: a library user sets options,
 * a user of the command line gives flags.
 *
 * @module
 */

/** Everything that messages advise, in the library's words. */
const libraryWords = {
  /** To do without the hub. */
  useCache: "localFilesOnly: true loads a cached model without it",
  /** To give a tokenizer to a model that has none. */
  giveTokenizer: "set the option tokenizer to a folder with vocab.json and merges.txt",
  /** To go without a safety checker. */
  skipChecker: "pass safetyChecker: null to generate unchecked pictures",
  /** Completes "has no safety checker": the reason. */
  checkerSkipped: " (safetyChecker: null)",
  /** To avoid the range of f16. */
  useF32: 'load the pipeline with activations: "f32"',
  /** To avoid the range of f16 in products. */
  useF32Arithmetic: 'load the pipeline with arithmetic: "f32"',
  /** To apply an edit to a model that it was not solved for. */
  useEditAnyway: "Set anyModel: true to use it nevertheless",
  /** To edit a model without a pooled embedding. */
  leavePooledOut: "edit without withPooled",
  /** To write where something is. */
  overwrite: "choose another place, or set overwrite: true",
  /** To use a file that is a LoRA. */
  loadLora: "load the model that it belongs to and call loadLoraWeights()",
  /** To use a file that is an edit. */
  loadEdit: "load the model that it belongs to, and the edit with ModelEdit.load(), and push it onto pipe.edits",
  /** To use a file that is a textual inversion. */
  loadInversion: "load the model that it belongs to and call loadTextualInversion()",
  /** To choose among the files of a folder. */
  chooseFile: "name one by weightName",
  /** To load a file as a whole model. */
  loadSingleFile: "load it with fromSingleFile()",
  /** To draw with a model whose scheduler is not supported. */
  chooseSampler: 'choose one, pipe.scheduler = samplerByName("dpm++ 2m", pipe.scheduler.config)',
  /** To load LoRAs that prompts name. */
  giveLoraDir: "set loraDir, the folder of LoRAs",
  /** To read prompts as A1111 does. */
  readAsA1111: 'promptSyntax: "a1111" reads it as A1111 does',
  /** To write numbers beyond the range of f16. */
  saveInF32: 'Save with dtype: "f32"',
  /** To use a file that is an autoencoder. */
  loadVae: "load the model that it belongs to with the option vae",
} as const;

/** Names of what messages advise. */
export type Advice = keyof typeof libraryWords;

/** The advice of a front end in its own words: one text for everything that messages advise. */
export type Words = Readonly<Record<Advice, string>>;

let words: Words = libraryWords;

/** The words for an advice, as the front end in use says it. */
export function advise(advice: Advice): string {
  return words[advice];
}

/**
 * Words messages for another front end until the result is disposed of. It acts on the whole
 * process: only a program that is the front end calls it.
 */
export function speakAs(own: Words): Disposable {
  const before = words;
  words = own;
  return { [Symbol.dispose]: () => void (words = before) };
}
