/**
 * The user's working folder.
 *
 * @module
 */
import { environmentVariable } from "../pipeline/environment.ts";

/**
 * Goes back to the folder that the command was started in. `deno task` runs its commands in the
 * folder of deno.json and names the user's in INIT_CWD; relative paths are the user's. Does nothing
 * where the command runs elsewhere, as INIT_CWD then belongs to another program.
 */
export function enterUsersFolder(): void {
  const started = environmentVariable("INIT_CWD");
  if (started === undefined || import.meta.dirname === undefined) return;
  try {
    if (Deno.realPathSync(".") === Deno.realPathSync(`${import.meta.dirname}/..`)) Deno.chdir(started);
  } catch {
    // Without read permission, or where the folder is gone, paths stay relative to the present one.
  }
}
