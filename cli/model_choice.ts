import { isWeightsFile } from "../pipeline/checkpoint/source/weights_file.ts";
import { infoAt } from "../pipeline/output/paths.ts";
import { ArgumentError } from "./argument_error.ts";
import { resolveModel } from "./embedded_model.ts";
import { isAddress } from "./model_hash.ts";

/**
 * Refuses flags that choose among the versions of a model, where the model has one only.
 *
 * @throws {ArgumentError} then
 */
export async function checkModelChoice(
  { model, revision, variant }: {
    readonly model: string;
    readonly revision?: string;
    readonly variant?: string;
  },
): Promise<void> {
  if (revision === undefined && variant === undefined) return;
  const path = await resolveModel(model);
  const found = isAddress(path) ? undefined : await infoAt(path);
  const isSingleFile = isWeightsFile(path) || found?.isFile;
  const refuse = (flag: string, where: string) => {
    throw new ArgumentError(
      `Cannot use ${flag} with ${model}${found ? ", which is on this disk" : ""}: it applies to ${where} only`,
      { argument: flag },
    );
  };
  if (revision !== undefined && (found || isSingleFile || isAddress(path))) refuse("--revision", "models of the hub");
  if (variant !== undefined && isSingleFile) refuse("--variant", "folders and models of the hub");
}
