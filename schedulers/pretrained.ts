import type { HubOptions } from "../pipeline/checkpoint/hub/hub.ts";
import type { FileTree } from "../pipeline/checkpoint/source/file_tree.ts";
import type { SchedulerConfig } from "./config.ts";

/** Options of {@linkcode Scheduler.fromPretrained}: those of the hub, and the folder. */
export interface SchedulerSourceOptions extends Omit<HubOptions, "onProgress"> {
  /** The folder in the source that holds the file: "scheduler" in a whole model. Default: none. */
  readonly subfolder?: string;
}

const FILE = "scheduler_config.json";

/**
 * Reads a scheduler_config.json: the file itself, one in a folder or in its subfolder, or one of a
 * model on the hub, of which no other file is fetched. Where the file has no `_class_name`, it is
 * taken from the model's model_index.json.
 *
 * @throws {CheckpointError} where there is no such file; {HubError} where the hub fails
 */
export async function readSchedulerConfig(
  source: string | URL | FileTree,
  { subfolder, ...hub }: SchedulerSourceOptions = {},
): Promise<SchedulerConfig> {
  // Loaded when needed: planning runs needs neither files nor the hub.
  const { openConfigSource } = await import("../pipeline/checkpoint/source/config_source.ts");
  const { readObject } = await import("../pipeline/checkpoint/diffusers/config/fields.ts");
  const { tree, file, root } = await openConfigSource(source, { file: FILE, subfolder, hub });
  const config = await readObject(tree, file);
  if (config._class_name !== undefined || !await root.has("model_index.json")) return config;
  const index = await readObject(root, "model_index.json");
  const [, className] = index.scheduler instanceof Array ? index.scheduler : [];
  return typeof className === "string" ? { ...config, _class_name: className } : config;
}
