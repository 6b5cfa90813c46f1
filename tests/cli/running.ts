import { pocket } from "../paths.ts";
import { main } from "../../cli/main.ts";
import { withSharedDevices } from "../gpu.ts";

/** The output and exit code of a command. */
export interface Ran {
  code: number;
  out: string;
  err: string;
}

/** Runs `bluerose` in this process and captures its output. */
export async function run(...args: string[]): Promise<Ran> {
  const { log, error, warn } = console;
  const said = { out: "", err: "" };
  console.log = (text: string) => void (said.out += `${text}\n`);
  console.error = console.warn = (text: string) => void (said.err += `${text}\n`);
  try {
    return { code: await withSharedDevices(() => main(args)), ...said };
  } finally {
    Object.assign(console, { log, error, warn });
  }
}

/** A folder for as long as it is in use. */
export async function temporaryFolder(): Promise<{ path: string } & AsyncDisposable> {
  const path = await Deno.makeTempDir();
  return { path, [Symbol.asyncDispose]: () => Deno.remove(path, { recursive: true }) };
}

const readConfig = async (part: string) => JSON.parse(await Deno.readTextFile(`${pocket}/${part}/config.json`));
const [unet, vae] = [await readConfig("unet"), await readConfig("vae")];

/** Side of the pictures that the embedded model draws, in pixels, by its configurations. */
export const pocketSide: number = unet.sample_size * 2 ** (vae.block_out_channels.length - 1);
