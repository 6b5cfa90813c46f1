import { pocket } from "../paths.ts";
import { main } from "../../cli/main.ts";
import { withSharedDevices } from "../gpu.ts";

export { temporaryFolder } from "../pipeline/output/folders.ts";

/** The output and exit code of a command. */
export interface Ran {
  code: number;
  out: string;
  err: string;
}

/** Runs `bluerose` in this process and captures its output. */
export async function run(...args: string[]): Promise<Ran> {
  let code = 0;
  const { out, err } = await said(async () => void (code = await withSharedDevices(() => main(args))));
  return { code, out, err };
}

/** Captures what `body` prints. */
export async function said(body: () => Promise<unknown>): Promise<Pick<Ran, "out" | "err">> {
  const { log, error, warn } = console;
  const lines = { out: "", err: "" };
  console.log = (text: string) => void (lines.out += `${text}\n`);
  console.error = console.warn = (text: string) => void (lines.err += `${text}\n`);
  try {
    await body();
    return lines;
  } finally {
    Object.assign(console, { log, error, warn });
  }
}

const readConfig = async (part: string) => JSON.parse(await Deno.readTextFile(`${pocket}/${part}/config.json`));
const [unet, vae] = [await readConfig("unet"), await readConfig("vae")];

/** Side of the pictures that the embedded model draws, in pixels, by its configurations. */
export const pocketSide: number = unet.sample_size * 2 ** (vae.block_out_channels.length - 1);
