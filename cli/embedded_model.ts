import { exists } from "../pipeline/output/paths.ts";

/** The model in this repository, as flags name it. */
export const embeddedModel = "models/pocket";

/** The CLIP model beside it. */
export const embeddedClip: string = `${embeddedModel}/clip`;

/** The folder of the embedded model, independent of the working directory. */
export const embeddedFolder: string = import.meta.dirname === undefined
  ? embeddedModel
  : `${import.meta.dirname}/../${embeddedModel}`;

/**
 * The path to open for a model that a flag names. The embedded model and its CLIP model are found
 * from any working directory; a folder of that name in the working directory takes precedence.
 */
export async function resolveModel(model: string): Promise<string> {
  if (model !== embeddedModel && model !== embeddedClip) return model;
  return await exists(model) ? model : embeddedFolder + model.slice(embeddedModel.length);
}
