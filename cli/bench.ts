import { casesFor, kernelCases } from "../bench/cases/cases.ts";
import { type Ceiling, measureCeiling } from "../bench/measure/ceiling.ts";
import { measureColdCompilation } from "../bench/measure/compilation.ts";
import { findDawn } from "../bench/measure/dawn.ts";
import { measureDemo } from "../bench/measure/demo.ts";
import { measureEdit } from "../bench/measure/edit.ts";
import { measureFullSize } from "../bench/measure/full_size.ts";
import { measureKernel } from "../bench/measure/kernels.ts";
import { writeText } from "../pipeline/output/file.ts";
import { benchPage } from "../bench/report/page.ts";
import { openPeers, PeerPace } from "../bench/peers/peers.ts";
import {
  type BenchReport,
  compareReports,
  comparisonText,
  type CompilationRecord,
  compilationText,
  type DeviceRecord,
  digits,
  type FullSizeRecord,
  fullSizeText,
  kernelHead,
  kernelLine,
  type KernelRecord,
  parseReport,
  percent,
  stageLine,
  type StageRecord,
  stepText,
  summarizePeers,
} from "../bench/report/report.ts";
import { measureStages } from "../bench/measure/stages.ts";
import { judgeTargets, targetsText } from "../bench/report/targets.ts";
import { waitingMs } from "../bench/measure/timing.ts";
import { guidedTasks } from "../bench/cases/unet_shapes.ts";
import { Gpu } from "../engine/gpu.ts";
import type { TileShape } from "../kernels/gemm/tile.ts";
import { tuningName } from "../kernels/policy.ts";
import { tune, type TunedKind } from "../bench/measure/tune.ts";
import { openTunedGpu } from "../pipeline/tuning_file.ts";
import { saveTuning } from "./tile_file.ts";
import { ArgumentError } from "./argument_error.ts";
import { type Command, defineCommand } from "./command.ts";
import { embeddedModel, resolveModel } from "./embedded_model.ts";
import { environmentVariable } from "./environment.ts";
import { overwriteFlag, readTextOf, refuseExisting } from "./files.ts";
import { checkJsonFile, giveJson, jsonFlag } from "./json_file.ts";
import { say } from "./printer.ts";
import { showProgress } from "./progress.ts";

const parts = ["kernels", "stages", "edit", "compile", "full-size", "demo"] as const;

/** Steps of seconds are timed twice, those of a minute once. */
const fullSizeBudgetMs = 10_000;

/**
 * `bluerose bench`: kernels against the device's ceiling, the way to a picture stage by stage, the
 * edit; beside other engines.
 */
export const command: Command = defineCommand({
  name: "bench",
  summary: "measure kernels against the device's ceiling, and drawing and editing end to end",
  usage: "[flags]",
  details:
    "Measures first what this device can do at all (arithmetic without memory, memory without arithmetic), then each kernel's share of it, " +
    "at the sizes of Stable Diffusion 1.4 at 512² and of the embedded model; then drawing, editing, what compiling costs, a step of a full-size model " +
    "(with random weights: 2 GB in a temporary folder), and the demo. Says at the end which of this project's targets the run meets. " +
    "Times are minima over several batches, without the price of waiting; what is compared is measured in turns. " +
    "Without a GPU all of it takes about eight minutes, and twenty more with peers, which are slow there: those of their runs that last seconds are timed once.",
  flags: {
    filter: {
      kind: "text",
      placeholder: "REGEXP",
      help: 'only kernels whose name and shape match, as in "conv2d.*unet"',
    },
    only: {
      kind: "texts",
      placeholder: "PART",
      help: `only this part (${parts.join(", ")})`,
    },
    quick: { kind: "switch", help: "small shapes and pictures only, and a third of the time for each" },
    model: { kind: "text", alias: "m", placeholder: "DIR", default: embeddedModel, help: "model of the stages" },
    steps: { kind: "whole", default: 20, min: 1, help: "denoising steps of the stages' picture" },
    peers: { kind: "switch", help: "measure tfjs and jax-js too (they are downloaded), and PyTorch with --python" },
    python: {
      kind: "text",
      placeholder: "PATH",
      defaultText: "$BLUEROSE_PYTHON",
      help: "a Python with PyTorch (and diffusers), for --peers, the edit and the full size",
    },
    checkpoint: {
      kind: "text",
      placeholder: "DIR",
      defaultText: "random weights",
      help: "the full-size model, in diffusers' layout",
    },
    subgroupMatrices: {
      kind: "switch",
      help:
        "measure the kernels (or --tune them) with products on subgroup matrices: operands rounded to f16, sums in f32. " +
        "Some GPUs have them under Dawn's WebGPU, which is downloaded",
    },
    tune: {
      kind: "switch",
      help: "instead, find this device's fastest tiles and keep them: every later command uses them",
    },
    json: jsonFlag,
    html: {
      kind: "text",
      placeholder: "FILE",
      help: "write the results as a page with a roofline plot",
      access: { kind: "write", purpose: "write the page" },
    },
    overwrite: overwriteFlag,
    compare: {
      kind: "text",
      placeholder: "FILE",
      help: "the JSON of an earlier run: print each time's ratio new / old, and mark what is more than 5 % slower",
    },
  },
  examples: [
    { line: "bench", says: "everything, on this machine's device" },
    {
      line: "bench --only kernels --filter matmul --peers --python python3",
      says: "matrix products beside three other engines",
    },
    { line: "bench --only full-size --python python3", says: "a step of a full-size model beside PyTorch's" },
    { line: "bench --tune", says: "once on a new device (BLUEROSE_TILES tells where the tiles are kept)" },
    { line: "bench --quick --compare before.json", says: "what a change of the code has brought" },
  ],
  async run(values) {
    const filter = expression(values.filter);
    const onMatrices = values.subgroupMatrices;
    const wanted = chosenParts(onMatrices && values.only.length === 0 ? ["kernels"] : values.only, filter);
    if (onMatrices && [...wanted].some((part) => part !== "kernels")) {
      throw new ArgumentError("Cannot measure anything but kernels with --subgroup-matrices: leave --only out", {
        argument: "--subgroup-matrices",
      });
    }
    const python = values.python ?? environmentVariable("BLUEROSE_PYTHON");
    const before = values.compare === undefined
      ? undefined
      : parseReport(await readTextOf(values.compare, "--compare"), values.compare);
    await checkJsonFile(values.json, values);
    await refuseExisting(values.html, "--html", values);
    const date = new Date().toISOString();
    const budgetMs = values.quick ? 100 : 300;
    const stages: StageRecord[] = [];
    const kernels: KernelRecord[] = [];
    const onStage = (stage: StageRecord) => {
      stages.push(stage);
      say(stageLine(stage));
    };
    if (wanted.has("stages") && !values.tune) {
      say(`Drawing with ${values.model === embeddedModel ? "the embedded model" : values.model}`);
      await measureStages({ model: await resolveModel(values.model), steps: values.steps, budgetMs, onStage });
    }

    using gpu = onMatrices
      ? await openWithSubgroupMatrices(values.tune)
      : values.tune
      ? await Gpu.request()
      : await openTunedGpu();
    const waitMs = await waitingMs(() => gpu.finished());
    if (values.tune) return await tuneDevice(gpu, { waitMs, budgetMs });
    const ceiling = await measureCeiling(gpu, { budgetMs, waitMs });
    say(`\n${gpu.info.name}\n${ceilingText(ceiling)}`);
    if (wanted.has("kernels")) await measureKernels();
    if (wanted.has("edit")) {
      say("\nThe edit at Stable Diffusion 1.4's sizes");
      await measureEdit(gpu, { budgetMs, waitMs, python, onStage, onRemark: (remark) => say(`  ${remark}`) });
    }
    let compilation: CompilationRecord | undefined;
    if (wanted.has("compile")) {
      say("\nCompiling what a full-size model wants, without the driver's caches");
      compilation = await measureColdCompilation();
      say(compilationText(compilation));
    }

    const fullSize: FullSizeRecord[] = [];
    if (wanted.has("full-size")) {
      say("\nA guided step of a full-size model");
      await measureFullSize({
        checkpoint: values.checkpoint,
        pixels: values.quick ? [256] : [256, 512],
        python,
        budgetMs: fullSizeBudgetMs,
        onRecord: (record) => {
          fullSize.push(record);
          say(fullSizeText(record));
        },
        onRemark: (remark) => say(`  ${remark}`),
      });
    }

    if (wanted.has("demo")) {
      const stage = await measureDemo();
      if (stage) onStage(stage);
    }

    const measured: BenchReport = {
      device: deviceRecord(gpu, ceiling, date),
      kernels,
      stages,
      ...(compilation ? { compilation } : {}),
      ...(fullSize.length > 0 ? { fullSize } : {}),
    };
    const report: BenchReport = { ...measured, targets: judgeTargets(measured) };
    if (report.targets!.some(({ verdict }) => verdict !== "not measured")) {
      say(`\nTargets\n${targetsText(report.targets!)}`);
    }
    await giveJson(values.json, report);
    if (values.html !== undefined) {
      await writeText(values.html, benchPage(report));
      say(values.html);
    }
    if (before) {
      if (before.device.name !== report.device.name) {
        say(`\n${values.compare} was measured on another device: ${before.device.name}`);
      }
      say(`\n${comparisonText(compareReports(before, report), { beforeName: values.compare! })}`);
    }

    async function measureKernels(): Promise<void> {
      const isSoftware = gpu.info.deviceClass === "software";
      const cases = casesFor({ filter, isSoftware, quick: values.quick });
      if (cases.length === 0) {
        throw new ArgumentError(
          `Cannot measure kernels that match ${values.filter}: there are none among ${kernelCases.length}`,
          {
            argument: "--filter",
          },
        );
      }
      using opened = values.peers ? await openPeers({ waitMs, isSoftware, python }) : undefined;
      const pace = new PeerPace();
      for (const reason of opened?.absent ?? []) say(`not there: ${reason}`);
      say(`\n${kernelHead()}`);
      using bar = showProgress("kernels", { total: cases.length });
      for (const kernelCase of cases) {
        bar.advance(1, `${kernelCase.kernel} ${kernelCase.shape}`);
        const { record, remarks } = await measureKernel(gpu, kernelCase, {
          budgetMs,
          waitMs,
          ceiling,
          peers: kernelCase.peersOnRequest && !filter ? [] : opened?.peers,
          pace,
        });
        kernels.push(record);
        say(kernelLine(record, remarks));
        gpu.trim();
      }
      if (cases.filter(({ perStep }) => perStep !== undefined).length === guidedTasks.length) {
        say(`\n${stepText(kernels)}`);
      }
      for (const { peer, shapes, meanRatio, worst } of summarizePeers(kernels)) {
        say(
          `${peer}: ${digits(meanRatio)} times as long over ${shapes} shapes (geometric mean), ` +
            `${digits(worst.ratio)} times at ${worst.kernel} ${worst.shape}, where it does best`,
        );
      }
    }
  },
});

/** Dawn's device, which is asked for subgroup matrices and must have them. */
async function openWithSubgroupMatrices(isUntuned: boolean): Promise<Gpu> {
  const refuse = (why: string): never => {
    throw new ArgumentError(`Cannot use --subgroup-matrices as ${why}`, { argument: "--subgroup-matrices" });
  };
  const { gpu: dawn, missing } = await findDawn();
  if (!dawn) return refuse(missing!);
  const options = { gpu: dawn, subgroupMatrices: true };
  const gpu = isUntuned ? await Gpu.request(options) : await openTunedGpu(options);
  if (gpu.info.subgroupMatrix) return gpu;
  const { name } = gpu.info;
  gpu[Symbol.dispose]();
  return refuse(`${name} has none of f16 with results in f32`);
}

/** Tunes this adapter, starting from the choices of its device class. */
async function tuneDevice(gpu: Gpu, options: { waitMs: number; budgetMs: number }): Promise<void> {
  say(gpu.info.name);
  const size = ({ strategy, lanes, rows, columns }: TileShape) =>
    `${strategy} of ${lanes}: ${rows} ${strategy === "matrix" ? "×" : "rows ×"} ${columns} ${
      strategy === "matrix" ? "a subgroup" : "vec4"
    }`;
  const line = (what: string, form: string, { bestMs, beforeMs, tried }: Omit<TunedKind, "kind" | "best">) =>
    say(
      `  ${what.padEnd(14)}${form.padEnd(58)}${digits(bestMs)} ms, before ${digits(beforeMs)} ms (best of ${tried})`,
    );
  const tiles = await tune(gpu, {
    ...options,
    onKind: (tuned) => line(tuned.kind, size(tuned.best), tuned),
    onAttention: (tuned) => {
      const { path, ...numbers } = tuned.best;
      const form = Object.entries(numbers).map(([name, value]) => `${name} ${value}`).join(", ");
      line(`heads of ${tuned.width}`, `${path}${form && `: ${form}`}`, tuned);
    },
  });
  say(await saveTuning(tuningName(gpu.info), tiles));
}

function expression(text: string | undefined): RegExp | undefined {
  if (text === undefined) return undefined;
  try {
    return new RegExp(text);
  } catch (error) {
    throw new ArgumentError(`Cannot use --filter ${JSON.stringify(text)}: ${(error as Error).message}`, {
      argument: "--filter",
    });
  }
}

/** All parts, those asked for, or the kernels alone where these are filtered. */
function chosenParts(only: readonly string[], filter: RegExp | undefined): ReadonlySet<string> {
  for (const part of only) {
    if (!(parts as readonly string[]).includes(part)) {
      throw new ArgumentError(`Cannot use --only ${part}: it takes ${parts.join(", ")}`, { argument: "--only" });
    }
  }
  return new Set(only.length > 0 ? only : filter ? ["kernels"] : parts);
}

function ceilingText({ gflops, gflopsF64, gbps, bufferGbps }: Ceiling): string {
  const f64 = gflopsF64 === undefined ? "" : `, in f64 ${digits(gflopsF64)} (${percent(gflopsF64 / gflops)})`;
  return `ceiling: ${digits(gflops)} GFLOPS in f32${f64}; ${digits(gbps)} GB/s by a kernel, ${
    digits(bufferGbps)
  } from buffer to buffer`;
}

function deviceRecord(gpu: Gpu, ceiling: Ceiling, date: string): DeviceRecord {
  const { name, deviceClass, isFallbackAdapter, subgroupSize, features } = gpu.info;
  return {
    name,
    deviceClass,
    isFallbackAdapter,
    subgroupSize,
    features: [...features],
    runtime: `Deno ${Deno.version.deno}`,
    system: `${Deno.build.os} ${Deno.build.arch}, ${navigator.hardwareConcurrency} threads`,
    date,
    ceiling,
  };
}
