import { writeFolderAtomically } from "../../pipeline/output/folder.ts";
import { runDeno } from "../run_deno.ts";

/** Ends of a process that was to die. */
export interface Death {
  /** Whether it died; otherwise it had fewer changes to make, and ended by itself. */
  readonly wasKilled: boolean;
  readonly code: number;
  readonly err: string;
}

/** Runs `victim.ts`, which dies before its N-th change of the disk: "3", "rename=2". */
export async function dieAt(when: number | string, ...args: string[]): Promise<Death> {
  const victim = new URL("victim.ts", import.meta.url).pathname;
  const { code, signal, err } = await runDeno(["run", "-q", "-P=test", "--no-prompt", victim, `${when}`, ...args]);
  return { wasKilled: signal === "SIGKILL", code, err };
}

/** The folder that `victim.ts N folder` writes. */
export async function writeModel(path: string, text: string): Promise<void> {
  await writeFolderAtomically(path, { overwrite: true }, async (folder) => {
    await folder.writeText("unet/config.json", text);
    await folder.writeText("model_index.json", text);
  });
}
