import { writeText } from "../pipeline/output/file.ts";
import { checkNewFile } from "./files.ts";
import type { Flags } from "./flag_types.ts";
import { jsonText, say, sayJson } from "./printer.ts";

/** `--json` prints, `--json FILE` writes a file: for results that are kept. */
export const jsonFlag = {
  kind: "text",
  placeholder: "[FILE]",
  bare: "-",
  group: "Messages",
  help: "print the result as JSON, and nothing else on standard output; with FILE, write it there instead",
  access: { kind: "write", purpose: "write the result" },
} as const satisfies Flags[string];

/** Refuses a file that exists; called before the work. */
export async function checkJsonFile(json: string | undefined, options: { overwrite: boolean }): Promise<void> {
  await checkNewFile(json, "--json", options);
}

/** Prints or writes the result, as `--json` asks. */
export async function giveJson(json: string | undefined, value: unknown): Promise<void> {
  if (json === undefined) return;
  if (json === "-") return sayJson(value);
  await writeText(json, jsonText(value) + "\n");
  say(json);
}
