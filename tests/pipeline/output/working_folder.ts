/**
 * Tries to replace each folder that it is given, and prints the errors as a JSON array. A process
 * of its own, because the working folder is the process's.
 *
 *     working_folder.ts PATH…
 *
 * @module
 */
import { writeFolderAtomically } from "../../../pipeline/output/folder.ts";
import { checkOutputFolder } from "../../../pipeline/output/target.ts";

const errors: string[] = [];
for (const path of Deno.args) {
  const attempts = [
    () => writeFolderAtomically(path, { overwrite: true }, (folder) => folder.writeText("new.txt", "new")),
    () => checkOutputFolder(path),
  ];
  for (const attempt of attempts) await attempt().then(() => {}, (error) => void errors.push(`${error}`));
}
await writeFolderAtomically("inside", {}, (folder) => folder.writeText("new.txt", "new"));
console.log(JSON.stringify(errors));
