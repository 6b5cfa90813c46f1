/**
 * Folders that tests read, as absolute paths without a trailing slash.
 *
 * @module
 */

/** The root of the repository. */
export const repository: string = new URL("../", import.meta.url).pathname.replace(/\/$/, "");

/** Checkpoints and tensors recorded from the reference implementations. */
export const goldens: string = `${repository}/tests/goldens`;

/** Values recorded from the reference implementations, as JSON. */
export const referenceFolder: string = `${repository}/tests/reference`;

/** The model that comes with the repository. */
export const pocket: string = `${repository}/models/pocket`;

/** The goldens and the models that they are of, for `pipeline/golden_suite.ts`. */
export const goldensOnDisk = {
  folder: (path: string): string => path.startsWith("pocket") ? `${repository}/models/${path}` : `${goldens}/${path}`,
  goldens: (name: string): Promise<Uint8Array<ArrayBuffer>> => Deno.readFile(`${goldens}/${name}.safetensors`),
};
