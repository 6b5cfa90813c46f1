import { kernelCases } from "../bench/cases/cases.ts";
import { deviceNamed, kernelTexts, laidOut } from "../bench/wgsl.ts";
import { Gpu, type GpuInfo } from "../engine/gpu.ts";
import { ArgumentError } from "./argument_error.ts";
import { type Command, defineCommand } from "./command.ts";
import { patternOf } from "./pattern.ts";
import { say, sayJson } from "./printer.ts";
import { runCommand } from "./run_command.ts";

const program = "deno task wgsl";

/** `deno task wgsl`: prints the WGSL that cases of the bench run. */
export const command: Command = defineCommand({
  name: "wgsl",
  program,
  summary: "print the WGSL of the kernels that cases of the bench run, laid out to be read",
  usage: "PATTERN [DEVICE] [flags]",
  details: "PATTERN is a regular expression for kernel and shape, as for bench --filter. DEVICE is here (default), " +
    "nvidia, amd, apple, intel or other for what the kernels are on such a GPU, f16 for f16 arithmetic, or matrices " +
    "for subgroup matrices of 16 × 16 × 16. Nothing is computed.",
  flags: {},
  positionals: { placeholder: "PATTERN [DEVICE]", min: 1, max: 2 },
  async run(_, { positionals: [text, device = "here"] }) {
    const names = kernelCases.map(({ kernel, shape }) => `${kernel} ${shape}`);
    const pattern = patternOf(text, names, { argument: "PATTERN", what: "kernel cases" });
    const texts = kernelTexts(await infoOf(device), pattern);
    for (const { shape, kernel, wgsl } of texts) say(`// ${kernel}: first used by ${shape}\n${laidOut(wgsl)}\n`);
    sayJson(texts);
    if (texts.length > 0) return;
    throw new ArgumentError(`Cannot print kernels of ${JSON.stringify(text)} as ${device} runs none of these cases`, {
      argument: text,
    });
  },
});

async function infoOf(device: string): Promise<GpuInfo> {
  if (device === "here") {
    using gpu = await Gpu.request();
    return gpu.info;
  }
  const info = deviceNamed(device);
  if (info) return info;
  throw new ArgumentError(
    `Cannot use the device ${
      JSON.stringify(device)
    }: it must be here, nvidia, amd, apple, intel, other, f16 or matrices`,
    { argument: device },
  );
}

if (import.meta.main) Deno.exit(await runCommand(program, Deno.args, () => ({ command })));
