import { CheckpointError } from "../../errors.ts";
import type { FileTree } from "./file_tree.ts";
import { openTree } from "./disk.ts";
import type { ComponentName } from "../diffusers/config/model_index.ts";
import { type HubOptions, isHubId, openHub } from "../hub/hub.ts";
import { pipelineFiles } from "../diffusers/pipeline_files.ts";

/** What {@linkcode openModelSource} can be told beside the hub's options. */
export interface ModelSourceOptions extends Omit<HubOptions, "onProgress"> {
  /** "fp16" picks the half-precision files. */
  readonly variant?: string;
  /** Components that are not wanted: their files are not fetched. */
  readonly without?: readonly ComponentName[];
  /** Told how much of all files has been fetched. */
  readonly onFetch?: (doneBytes: number, totalBytes: number) => void;
}

/**
 * Opens a model in diffusers' layout by what a user calls it: a folder, or else a model of the hub,
 * of which just the needed files are fetched.
 *
 * @throws {CheckpointError} if there is no such folder and the name cannot be a hub id; {HubError}
 *   if the hub does not have it either
 */
export async function openModelSource(source: string | FileTree, options: ModelSourceOptions = {}): Promise<FileTree> {
  try {
    return await openTree(source);
  } catch (error) {
    // A name like OWNER/NAME that is no folder here is meant for the hub; ./NAME and /NAME are not.
    if (
      !(error instanceof CheckpointError) || typeof source !== "string" || !isHubId(source) || !source.includes("/")
    ) throw error;
  }
  const { variant, without, onFetch, ...hub } = options;
  const tree = await openHub(source, { ...hub, onProgress: ({ bytes, size }) => onFetch?.(bytes, size) });
  await tree.prefetch(await pipelineFiles(tree, { variant, without }));
  return tree;
}
