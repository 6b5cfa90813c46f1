/** Loads the LoRAs that prompts name, for one call. */

import type { Teachable } from "../adapters/added_tokens.ts";
import { loadLora, unloadLora } from "../adapters/loras.ts";
import type { AdapterSource } from "../adapters/open_adapter.ts";
import { openTree } from "../checkpoint/source/disk.ts";
import type { FileTree } from "../checkpoint/source/file_tree.ts";
import { advise } from "../advice.ts";
import { PromptError } from "../errors.ts";
import { nearest } from "../nearest.ts";
import type { PipelineComponents, XLPipelineComponents } from "../components.ts";
import type { LoraTag } from "../text/prompt_syntax/lora_tags.ts";
import type { LoraDirectory } from "./options.ts";

/** Sets the weights of an adapter that is loaded for one call alone. */
export type IncludeAdapter = (name: string, weights: { textEncoderWeight: number; unetWeight: number }) => void;

/** Numbers the adapters of all calls, so that calls that overlap do not share a name. */
let count = 0;

/**
 * Loads the LoRAs of a call's prompts and adds them to the call's state, with the weights of their
 * tags and the embeddings of their files. Other calls do not see them: their weight in the pipeline
 * is 0.
 *
 * @returns what unloads them
 * @throws {PromptError} without a LoRA folder, or for a name that is not in it; {AdapterError} for
 *   a file that is no LoRA of this model
 */
export async function loadTaggedLoras(
  components: PipelineComponents | XLPipelineComponents,
  loras: readonly LoraTag[],
  { loraDir, include, teach }: {
    loraDir?: LoraDirectory;
    include: IncludeAdapter;
    teach: (load: (learner: Teachable) => Promise<void>) => Promise<void>;
  },
): Promise<DisposableStack> {
  using loaded = new DisposableStack();
  await teach(async (learner) => {
    for (const { name, textEncoderWeight, unetWeight } of loras) {
      const source = await findLora(name, loraDir);
      const unique = `${name} (prompt ${++count})`;
      await loadLora(components, source, { name: unique, weight: 0 }, learner);
      loaded.defer(() => components.unet.weights.adapters.weights.has(unique) && unloadLora(components, unique));
      include(unique, { textEncoderWeight, unetWeight });
    }
  });
  return loaded.move();
}

/** The source of the LoRA that a prompt names. @throws {PromptError} where there is none */
export async function findLora(name: string, directory: LoraDirectory | undefined): Promise<AdapterSource> {
  if (directory === undefined) {
    throw new PromptError(
      `Cannot load the LoRA ${JSON.stringify(name)} that a prompt names as no folder of LoRAs is given: ${
        advise("giveLoraDir")
      }`,
    );
  }
  if (typeof directory === "function") return await directory(name);
  const tree = await openTree(directory);
  const files = await loraFiles(tree);
  const path = files.get(name);
  if (path !== undefined) return typeof directory === "string" ? `${directory}/${path}` : await tree.open(path);
  const meant = nearest(name, [...files.keys()]);
  throw new PromptError(
    `Cannot find the LoRA ${JSON.stringify(name)} that a prompt names in ${tree.name}, which holds ${files.size} ` +
      `.safetensors files${meant === undefined ? "" : `: did you mean ${JSON.stringify(meant)}?`}`,
  );
}

/** Levels of folders that are searched. */
const deepest = 4;

/** Paths of LoRA files by their names without extension; files of outer folders come first. */
async function loraFiles(tree: FileTree): Promise<Map<string, string>> {
  const files = new Map<string, string>();
  let folders = [""];
  for (let depth = 0; depth < deepest && folders.length > 0; depth++) {
    const inner: string[] = [];
    for (const folder of folders) {
      for (const entry of await tree.list(folder === "" ? undefined : folder)) {
        const path = folder === "" ? entry : `${folder}/${entry}`;
        if (entry.endsWith("/")) inner.push(path.slice(0, -1));
        const stem = /^(.+)\.(?:safetensors|sft)$/i.exec(entry)?.[1];
        if (stem !== undefined && !files.has(stem)) files.set(stem, path);
      }
    }
    folders = inner;
  }
  return files;
}
