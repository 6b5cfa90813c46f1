import { kernelCases } from "../bench/cases/cases.ts";
import { findDawn } from "../bench/measure/dawn.ts";
import { reportText } from "../bench/report/whole.ts";
import { type BenchPart, benchParts, budgetOf } from "../bench/options.ts";
import { runBench } from "../bench/run.ts";
import { Gpu } from "../engine/gpu.ts";
import { policyOf } from "../kernels/policy.ts";
import { openTunedGpu } from "../pipeline/tuning_file.ts";
import { ArgumentError } from "./argument_error.ts";
import { checkInputs, checkModes, checkParts } from "./bench_flags.ts";
import { giveRecord, openRecords } from "./bench_record.ts";
import { tuneDevice } from "./bench_tune.ts";
import { type Command, defineCommand } from "./command.ts";
import { embeddedModel, resolveModel } from "./embedded_model.ts";
import { environmentVariable } from "../pipeline/environment.ts";
import { overwriteFlag } from "./files.ts";
import { jsonFlag, PartialJson } from "./json_file.ts";
import { patternOf } from "./pattern.ts";
import { say } from "./printer.ts";
import { showProgress } from "./progress.ts";

/** `bluerose bench`: measures kernels, stages and the edit; tunes a device. */
export const command: Command = defineCommand({
  name: "bench",
  summary: "measure kernels, image generation and editing, or tune a device",
  usage: "[flags]",
  details: [
    "Parts, chosen by --only (default: all):",
    "- stages: generating a picture, stage by stage, first with empty shader caches",
    "- kernels: each kernel at the sizes of Stable Diffusion 1.4 and of the embedded model, as a share of the device's peak rates",
    "- edit: solving and baking an edit at the sizes of Stable Diffusion 1.4",
    "- compile: compiling all kernels of a full-size model",
    "- full-size: a guided UNet step of a full-size model (default: random weights, 2 GB in a temporary folder)",
    "- demo: sh run.sh demo in a new process",
    "- browser: a picture of the embedded model in Chromium and in Deno, where Chromium is installed (its driver is downloaded)",
    "",
    "A time is the minimum over several batches of runs, without the fixed cost of waiting for the device. Works that are " +
    "compared run in turns. The run ends with the project's performance targets that it meets or misses.",
    "",
    "On a software device a full run takes about 8 minutes, and about 20 more with --peers.",
  ].join("\n"),
  flags: {
    only: {
      kind: "texts",
      placeholder: "PART",
      help: `measure only this part (${benchParts.join(", ")})`,
    },
    filter: {
      kind: "text",
      placeholder: "REGEXP",
      help: 'measure only kernels whose name and shape match, as in "conv2d.*unet"; implies --only kernels',
    },
    quick: { kind: "switch", help: "measure small shapes and pictures only, for a third of the time each" },
    model: {
      kind: "text",
      alias: "m",
      placeholder: "DIR",
      default: embeddedModel,
      mayRead: true,
      help: "model of the stages",
    },
    steps: { kind: "whole", default: 20, min: 1, help: "denoising steps of the stages' picture" },
    peers: {
      kind: "switch",
      help: "also measure tfjs, jax-js and ONNX Runtime (downloaded), and PyTorch with --python",
    },
    python: {
      kind: "text",
      placeholder: "PATH",
      defaultText: "$BLUEROSE_PYTHON",
      help: "Python with PyTorch and diffusers, for --peers, edit and full-size, and stable-diffusion-cpp-python",
    },
    checkpoint: {
      kind: "text",
      placeholder: "DIR",
      defaultText: "random weights",
      help: "the full-size model, in diffusers' layout",
    },
    shapes: {
      kind: "text",
      choices: ["sd14", "sdxl"],
      default: "sd14",
      help: "model whose shapes the random weights have: Stable Diffusion 1.4, or SDXL (7 GB)",
    },
    pixels: {
      kind: "whole",
      min: 64,
      multipleOf: 64,
      defaultText: "256 and 512; 512 with SDXL's shapes",
      help: "side of the full-size step's picture",
    },
    subgroupMatrices: {
      kind: "switch",
      help: "measure kernels, or --tune, with subgroup matrices: f16 operands, f32 sums. Needs a GPU that has them " +
        "under Dawn's WebGPU, which is downloaded",
    },
    arithmetic: {
      kind: "text",
      choices: ["f32", "f16"],
      default: "f32",
      help: "measure kernels, or --tune, with products, convolutions and attention in f16, on a device that has it",
    },
    processorTime: {
      kind: "switch",
      help: "measure kernels by processor time per thread in place of the clock: what can be compared on a busy " +
        "machine. For software devices; a kernel that leaves threads idle looks faster by it",
    },
    tune: {
      kind: "switch",
      help:
        "measure nothing else, but find this device's fastest tiles and attention forms and save them for all commands; " +
        "with --checkpoint also for each product, convolution and head width of that model's UNet",
    },
    json: jsonFlag,
    html: {
      kind: "text",
      placeholder: "FILE",
      help: "write the report as a page with a roofline plot; with --compare, beside the other record",
      access: { kind: "write", purpose: "write the page" },
    },
    overwrite: overwriteFlag,
    from: {
      kind: "text",
      placeholder: "FILE",
      help: "measure nothing: show the record that --json FILE wrote, for --html and --compare",
      access: { kind: "read", purpose: "read the record" },
    },
    gpuModel: {
      kind: "text",
      placeholder: "FILE",
      help: "show the GPU model's table on the page of --html, from the JSON of deno task bench:gpu-model",
      access: { kind: "read", purpose: "read the record" },
    },
    compare: {
      kind: "text",
      placeholder: "FILE",
      access: { kind: "read", purpose: "read the earlier run" },
      help:
        "compare with the JSON of an earlier run: print the ratio new / old of each time, and mark those above 1.05",
    },
  },
  examples: [
    { line: "bench", says: "all parts" },
    {
      line: "bench --only kernels --filter matmul --peers --python python3",
      says: "matrix products, beside other engines",
    },
    {
      line: "bench --only full-size --python python3",
      says: "a step of a full-size model, beside PyTorch and stable-diffusion.cpp",
    },
    { line: "bench --tune", says: "tune a new device once; BLUEROSE_TILES names the file" },
    { line: "bench --quick --compare before.json", says: "the effect of a change" },
    { line: "bench --from after.json --compare before.json --html page.html", says: "two records side by side" },
  ],
  async run(values, { given }) {
    checkModes(given);
    const records = await openRecords(values);
    if (records.from) {
      say(reportText(records.from));
      return await giveRecord(records.from, values, records);
    }
    const { subgroupMatrices } = values;
    if (subgroupMatrices && values.arithmetic === "f16") {
      throw new ArgumentError(
        "Cannot use --arithmetic f16 with --subgroup-matrices: both choose how products are computed, so omit one",
        {
          argument: "--arithmetic",
        },
      );
    }
    if (values.processorTime) checkProcessorTime(values);
    const filter = values.filter === undefined ? undefined : patternOf(
      values.filter,
      kernelCases.map(({ kernel, shape }) => `${kernel} ${shape}`),
      { argument: "--filter", what: "kernel cases" },
    );
    const special = subgroupMatrices
      ? "--subgroup-matrices"
      : values.arithmetic === "f16"
      ? "--arithmetic"
      : values.processorTime
      ? "--processor-time"
      : undefined;
    const parts = chosenParts(special !== undefined && values.only.length === 0 ? ["kernels"] : values.only, filter);
    if (special !== undefined && [...parts].some((part) => part !== "kernels")) {
      throw new ArgumentError(`Cannot measure other parts than kernels with ${special}: omit --only`, {
        argument: special,
      });
    }
    if (!values.tune) checkParts(given, parts);
    const python = values.python ?? environmentVariable("BLUEROSE_PYTHON");
    const openGpu = () => openDevice(values);
    if (values.tune) return await tuneDevice(openGpu, values.checkpoint, { budgetMs: budgetOf(values) });
    await checkInputs({ ...values, python: values.python }, parts);
    const partial = new PartialJson(values.json);
    const report = await runBench({
      parts,
      openGpu,
      model: {
        folder: parts.has("stages") ? await resolveModel(values.model) : values.model,
        name: values.model === embeddedModel ? "the embedded model" : values.model,
      },
      steps: values.steps,
      filter,
      quick: values.quick,
      byProcessorTime: values.processorTime,
      peers: values.peers,
      python,
      checkpoint: values.checkpoint,
      shapes: values.shapes === "sdxl" ? "sdxl" : "sd14",
      pixels: values.pixels,
      print: say,
      onMeasured: (report) => partial.write(report),
      showProgress: (total) => showProgress("kernels", { total }),
    });
    await giveRecord(report, values, records);
    await partial.remove();
  },
});

/** Refuses flags of works whose processor time is not known, or would mislead. */
function checkProcessorTime({ peers }: { readonly peers: boolean }): void {
  if (!peers) return;
  throw new ArgumentError(
    "Cannot use --processor-time with --peers: other engines also compute in processes of their own, so omit one",
    { argument: "--processor-time" },
  );
}

/** Opens the device that the flags choose: without its tuning, where that is to be measured. */
async function openDevice(
  { subgroupMatrices, arithmetic, tune, processorTime }: {
    readonly subgroupMatrices: boolean;
    readonly arithmetic: "f32" | "f16";
    readonly tune: boolean;
    readonly processorTime: boolean;
  },
): Promise<Gpu> {
  const gpu = subgroupMatrices
    ? await openWithSubgroupMatrices({ isTuned: !tune })
    : tune
    ? await Gpu.request({ arithmetic })
    : await openTunedGpu({ arithmetic });
  if (!processorTime || policyOf(gpu).isSoftware) return gpu;
  const { name } = gpu.info;
  gpu[Symbol.dispose]();
  throw new ArgumentError(`Cannot use --processor-time as ${name} is a GPU, which takes no processor time: omit it`, {
    argument: "--processor-time",
  });
}

/** Opens a device of Dawn with subgroup matrices. */
async function openWithSubgroupMatrices({ isTuned }: { isTuned: boolean }): Promise<Gpu> {
  const refuse = (why: string): never => {
    throw new ArgumentError(`Cannot use --subgroup-matrices as ${why}`, { argument: "--subgroup-matrices" });
  };
  const { gpu: dawn, missing } = await findDawn();
  if (!dawn) return refuse(missing!);
  const options = { gpu: dawn, subgroupMatrices: true };
  const gpu = isTuned ? await openTunedGpu(options) : await Gpu.request(options);
  if (gpu.info.subgroupMatrix) return gpu;
  const { name } = gpu.info;
  gpu[Symbol.dispose]();
  return refuse(`${name} has no subgroup matrices that multiply f16 into f32`);
}

/** The parts of --only; by default all, or the kernels alone with --filter. */
function chosenParts(only: readonly string[], filter: RegExp | undefined): ReadonlySet<BenchPart> {
  for (const part of only) {
    if (!(benchParts as readonly string[]).includes(part)) {
      throw new ArgumentError(
        `Cannot use --only ${JSON.stringify(part)} as it must be one of ${
          benchParts.join(", ")
        }; several parts need one --only each`,
        {
          argument: "--only",
        },
      );
    }
  }
  return new Set(only.length > 0 ? only as BenchPart[] : filter ? ["kernels"] : benchParts);
}
