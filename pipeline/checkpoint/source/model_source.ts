import type { FileTree } from "./file_tree.ts";
import { isMissingFolder, isPlainlyLocal, openTree } from "./disk.ts";
import type { ComponentName } from "../diffusers/config/model_index.ts";
import { type HubOptions, isHubId, openHub } from "../hub/hub.ts";
import { pipelineFiles } from "../diffusers/pipeline_files.ts";

/** Options of {@linkcode openModelSource}: those of the hub, and what to fetch. */
export interface ModelSourceOptions extends Omit<HubOptions, "onProgress"> {
  /** Precision variant in the file names: "fp16". Default: none. */
  readonly variant?: string;
  /** Components to leave out. Their files are not fetched. */
  readonly without?: readonly ComponentName[];
  /** Called with the bytes fetched so far and the total over all files. */
  readonly onFetch?: (doneBytes: number, totalBytes: number) => void;
}

/**
 * Opens a model in diffusers' layout: a folder if it exists, otherwise a model on the hub, of which
 * only the needed files are fetched. The hub is not asked for what is plainly a local path.
 *
 * @throws {CheckpointError} if there is no such folder and the name cannot be a hub id; {HubError}
 *   if the hub does not have it either
 */
export async function openModelSource(
  source: string | URL | FileTree,
  options: ModelSourceOptions = {},
): Promise<FileTree> {
  try {
    return await openTree(source);
  } catch (error) {
    if (typeof source !== "string" || !isMissingFolder(error) || !await mayBeHubId(source)) throw error;
  }
  const { variant, without, onFetch, ...hub } = options;
  const tree = await openHub(source, { ...hub, onProgress: ({ bytes, size }) => onFetch?.(bytes, size) });
  await tree.prefetch(await pipelineFiles(tree, { variant, without }));
  return tree;
}

/** Whether a name without a folder can be a model on the hub: OWNER/NAME, and no local path. */
export async function mayBeHubId(source: string): Promise<boolean> {
  return isHubId(source) && source.includes("/") && !await isPlainlyLocal(source);
}
