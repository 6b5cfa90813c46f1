/** What the library's messages advise, in the studio's words. @module */

import type { Words } from "../pipeline/advice.ts";

/** What messages advise a visitor of the page. */
export const studioWords: Words = {
  useCache: "download the model, and drop its folder here",
  giveTokenizer: "drop vocab.json and merges.txt, or tokenizer.json, together with it",
  skipChecker: "the studio draws unchecked pictures",
  checkerSkipped: "",
  useF32: "use another sampler, or other settings",
  useF32Arithmetic: "use another sampler, or other settings",
  useEditAnyway: "Add its prompts as an edit of this model",
  leavePooledOut: "draw with it by bluerose generate --edit",
  overwrite: "choose another place",
  loadLora: "open the model that it belongs to, and drop it then",
  loadEdit: "draw with it by bluerose generate --edit",
  loadInversion: "draw with it by bluerose generate --textual-inversion",
  chooseFile: "drop one of them alone",
  loadSingleFile: "drop that file alone",
  chooseSampler: "choose a sampler",
  giveLoraDir: "drop the LoRA on the page",
  readAsA1111: "bluerose generate --prompt-syntax a1111 reads it as A1111 does",
  saveInF32: "save it by bluerose edit --save-dtype f32",
  loadVae: "the studio draws with a model's own autoencoder",
};
