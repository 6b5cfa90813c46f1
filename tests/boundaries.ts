/**
 * Which part of the tree may import which, and which files may name `Deno`: the one statement of
 * both, read by the architecture test and by the strict browser check.
 *
 * @module
 */

/**
 * Files that work on disk and so may name `Deno`; everything else under {@linkcode browserFolders}
 * runs in a browser.
 */
export const mayNameDeno: readonly string[] = [
  "pipeline/checkpoint/source/disk.ts",
  "pipeline/checkpoint/source/readable_disk.ts",
  "pipeline/checkpoint/hub/cache.ts",
  "pipeline/environment.ts",
  "pipeline/output/append.ts",
  "pipeline/output/disk.ts",
  "pipeline/output/file.ts",
  "pipeline/output/folder.ts",
  "pipeline/output/holder.ts",
  "pipeline/output/paths.ts",
  "pipeline/output/target.ts",
  "pipeline/output/temporary.ts",
  "pipeline/tuning_file.ts",
];

/** The folders that claim to run in a browser as they are. */
export const browserFolders: readonly string[] = ["engine", "kernels", "schedulers", "pipeline", "studio"];

/** The parts of those folders that belong to the server or to the build instead. */
export const denoParts: readonly string[] = ["studio/server/", "studio/build.ts", "studio/pack_weights.ts"];

/**
 * A part of the tree: paths that start with `part` may import from paths that start with one of
 * `from`.
 */
export interface Boundary {
  readonly part: string;
  readonly from: readonly string[];
  /** Whether the part may import packages at all (default true). */
  readonly packages?: boolean;
}

const product = ["engine/", "kernels/", "schedulers/", "pipeline/"];

const foundations = [
  "engine/",
  "kernels/",
  "pipeline/errors.ts",
  "pipeline/schema.ts",
  "pipeline/safe_text.ts",
  "pipeline/shown.ts",
  "pipeline/advice.ts",
  "pipeline/nearest.ts",
  "pipeline/environment.ts",
  "pipeline/output/",
  "pipeline/checkpoint/",
  "pipeline/text/",
  "pipeline/image/",
  // a layer's updates by adapters: binding weights makes room for them
  "pipeline/adapters/layer_updates.ts",
  "pipeline/adapters/adapter_stack.ts",
];

/**
 * The first boundary whose part fits a file holds for it. Imports run one way: down this list never
 * reaches up.
 */
export const boundaries: readonly Boundary[] = [
  { part: "engine/", from: ["engine/"], packages: false },
  { part: "kernels/", from: ["engine/", "kernels/"], packages: false },
  // a scheduler_config.json is read from disk or the hub, and sampler names are suggested
  {
    part: "schedulers/",
    from: ["schedulers/", "pipeline/checkpoint/", "pipeline/nearest.ts", "pipeline/safe_text.ts", "pipeline/shown.ts"],
    packages: false,
  },
  { part: "pipeline/errors.ts", from: ["engine/", "pipeline/safe_text.ts"] },
  { part: "pipeline/secrets.ts", from: [], packages: false },
  { part: "pipeline/safe_text.ts", from: ["pipeline/secrets.ts"], packages: false },
  { part: "pipeline/shown.ts", from: ["pipeline/safe_text.ts"], packages: false },
  { part: "pipeline/schema.ts", from: ["pipeline/shown.ts"] },
  { part: "pipeline/editing/prompts/retained.ts", from: [], packages: false },
  { part: "pipeline/advice.ts", from: [], packages: false },
  { part: "pipeline/nearest.ts", from: [] },
  { part: "pipeline/output/", from: ["pipeline/errors.ts", "pipeline/advice.ts", "pipeline/output/"], packages: false },
  { part: "pipeline/checkpoint/", from: foundations },
  { part: "pipeline/text/", from: foundations },
  { part: "pipeline/image/", from: foundations },
  { part: "pipeline/adapters/layer_updates.ts", from: ["engine/", "kernels/"], packages: false },
  {
    part: "pipeline/adapters/adapter_stack.ts",
    from: ["engine/", "pipeline/adapters/layer_updates.ts"],
    packages: false,
  },
  { part: "pipeline/layers/", from: [...foundations, "pipeline/layers/"] },
  { part: "pipeline/models/", from: [...foundations, "pipeline/layers/", "pipeline/models/"] },
  { part: "pipeline/", from: ["engine/", "kernels/", "schedulers/", "pipeline/"] },
  { part: "mod.ts", from: ["engine/", "schedulers/", "pipeline/"] },
  { part: "studio/painter.ts", from: [], packages: false },
  {
    part: "studio/edit_methods.ts",
    from: ["studio/painter.ts", "pipeline/editing/prompts/retained.ts"],
    packages: false,
  },
  { part: "studio/edit_schema.ts", from: ["pipeline/schema.ts", "studio/painter.ts"] },
  {
    part: "studio/page/",
    from: [
      "pipeline/schema.ts",
      "studio/page/",
      "studio/painters/",
      "studio/painter.ts",
      "studio/edit_methods.ts",
      "studio/edit_schema.ts",
      "deno.json",
    ],
  },
  { part: "studio/painters/", from: ["studio/", "pipeline/advice.ts"] },
  { part: "studio/server/", from: [...product, "studio/", "deno.json"] },
  {
    part: "studio/build.ts",
    from: [...product, "studio/server/", "studio/pack_weights.ts", "studio/packed_weights.ts"],
  },
  { part: "studio/", from: [...product, "studio/", "deno.json"] },
  { part: "bench/", from: [...product, "studio/", "bench/", "mod.ts"] },
  {
    part: "cli/",
    from: ["engine/", "kernels/", "schedulers/", "pipeline/", "bench/", "cli/", "mod.ts", "deno.json", "studio/"],
  },
];

/** Whether a file may name `Deno`. */
export function isForDeno(path: string): boolean {
  return mayNameDeno.includes(path) || denoParts.some((part) => path.startsWith(part));
}

/**
 * Lists the TypeScript files below `folder`, as paths relative to `root` with forward slashes,
 * sorted.
 */
export async function typescriptFiles(root: URL, folder: string): Promise<string[]> {
  const files: string[] = [];
  try {
    for await (const entry of Deno.readDir(new URL(`${folder}/`, root))) {
      const path = `${folder}/${entry.name}`;
      if (entry.isDirectory) files.push(...await typescriptFiles(root, path));
      else if (/\.tsx?$/.test(entry.name)) files.push(path);
    }
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
  return files.sort();
}
