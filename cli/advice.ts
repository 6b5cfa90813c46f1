/** The library's advice in terms of flags. */

import type { Words } from "../pipeline/advice.ts";

/** What messages advise a user of the command line. */
export const flagWords: Words = {
  useCache: "--offline loads a cached model without it",
  giveTokenizer: "add --tokenizer DIR, a folder with vocab.json and merges.txt",
  skipChecker: "add --no-safety-checker to draw unchecked pictures",
  checkerSkipped: "",
  useF32: "use --activations f32",
  useF32Arithmetic: "use --arithmetic f32",
  useEditAnyway: "Solve it again for this model with bluerose edit, or add --any-model to use it nevertheless",
  leavePooledOut: "edit without --with-pooled",
  overwrite: "choose another place, or add --overwrite",
  loadLora: "draw with it by --lora FILE and the model that it belongs to",
  loadEdit: "draw with it by --edit FILE and the model that it belongs to",
  loadInversion: "draw with it by --textual-inversion FILE and the model that it belongs to",
  chooseFile: "give the path of one of them",
  loadSingleFile: "give the file itself as --model",
  chooseSampler: "choose one by --sampling-method",
  giveLoraDir: "give --lora-dir, the folder of LoRAs",
  readAsA1111: "--prompt-syntax a1111 reads it as A1111 does",
  saveInF32: "Save in f32, by --save-dtype or --lora-dtype",
  loadVae: "draw with it by --vae FILE and the model that it belongs to",
};
