import { CheckpointError } from "../../errors.ts";
import { type HubOptions, isHubId, openHub } from "../hub/hub.ts";
import { openTree } from "./disk.ts";
import type { FileTree } from "./file_tree.ts";

/** Where a configuration file lies. */
export interface ConfigSource {
  /** The folder that holds it. */
  readonly tree: FileTree;
  /** Its name there. */
  readonly file: string;
  /** The folder of the whole model. */
  readonly root: FileTree;
}

/**
 * Finds a configuration file as diffusers does: the source is the file itself, a folder that holds
 * it or whose subfolder does, or a model of the hub, of which only this file is fetched.
 *
 * @throws {CheckpointError} where there is no such file; {HubError} where the hub fails
 */
export async function openConfigSource(
  source: string | URL | FileTree,
  { file, subfolder, hub }: { file: string; subfolder?: string; hub?: Omit<HubOptions, "onProgress"> },
): Promise<ConfigSource> {
  const text = source instanceof URL ? source.href : source;
  if (typeof text === "string" && /\.json$/i.test(text)) {
    const [, folder, name] = /^(?:(.*)[/\\])?([^/\\]+)$/.exec(text)!;
    const tree = await openTree(
      source instanceof URL ? new URL(".", source) : folder || (text.startsWith("/") ? "/" : "."),
    );
    return { tree, file: name, root: tree };
  }
  const root = await openModel(source, hub);
  if (await root.has(file)) return { tree: root, file, root };
  if (subfolder !== undefined && await root.has(`${subfolder}/${file}`)) {
    return { tree: root.subtree(subfolder), file, root };
  }
  const [folder] = file.split("_");
  const hint = subfolder === undefined && await root.has(`${folder}/${file}`)
    ? `: give { subfolder: "${folder}" }`
    : "";
  const where = subfolder === undefined ? "" : ` or in its ${subfolder}/`;
  throw new CheckpointError(`Cannot find ${file} in ${root.name}${where}${hint}`, { source: root.name });
}

async function openModel(source: string | URL | FileTree, hub: Omit<HubOptions, "onProgress"> = {}): Promise<FileTree> {
  try {
    return await openTree(source);
  } catch (error) {
    const canBeId = typeof source === "string" && isHubId(source) && source.includes("/");
    if (!(error instanceof CheckpointError) || !canBeId) throw error;
    return await openHub(source, hub);
  }
}
