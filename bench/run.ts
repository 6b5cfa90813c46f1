/**
 * Runs the benchmark: measures the chosen parts one after the other, reports each result as text
 * when it is there, and returns the report.
 *
 * @module
 */
import { countText } from "../engine/inspect.ts";
import type { Gpu } from "../engine/gpu.ts";
import { policyOf } from "../kernels/policy.ts";
import { casesFor } from "./cases/cases.ts";
import { type Ceiling, measureCeiling } from "./measure/ceiling.ts";
import { processorClock, waitingMs, wallClock } from "./measure/timing.ts";
import { type BenchOptions, benchParts, budgetOf } from "./options.ts";
import { measurePicture, partsOnDevice, Records } from "./parts.ts";
import type { BenchReport, DeviceRecord } from "./report/report.ts";
import { judgeTargets, targetsText } from "./report/targets.ts";
import { deviceText } from "./report/text.ts";

/** @throws {RangeError} where quick runs or the device leave out all cases that a filter matches */
export function checkCases(gpu: Gpu, { filter, quick }: Pick<BenchOptions, "filter" | "quick">): void {
  const { isSoftware } = policyOf(gpu);
  if (casesFor({ filter, isSoftware, quick }).length > 0) return;
  const withoutQuick = casesFor({ filter, isSoftware, quick: false }).length;
  const why = withoutQuick > 0 ? "a quick run leaves out" : "software devices take too long for";
  throw new RangeError(
    `Cannot measure kernels that match ${filter} on ${gpu.info.name} as ${why} all of these cases: ` +
      (withoutQuick > 0 ? "omit quick, or choose others" : "choose others"),
  );
}

/** Measures the chosen parts. */
export async function runBench(options: BenchOptions): Promise<BenchReport> {
  const { parts, print, onMeasured } = options;
  const date = new Date().toISOString();
  const records = new Records();
  if (parts.has("stages")) await measurePicture(options, records);

  using gpu = await options.openGpu();
  if (parts.has("kernels")) checkCases(gpu, options);
  const timing = await timingOf(gpu, options);
  const device = deviceRecord(gpu, { ceiling: timing.ceiling, date, byProcessorTime: options.byProcessorTime });
  print(`\n${deviceText(device)}`);
  const keep = async () => await onMeasured?.(records.reportOn(device));
  for (const part of benchParts) {
    if (part !== "stages" && parts.has(part)) await partsOnDevice[part]({ gpu, options, timing, records, keep });
  }

  const measured = records.reportOn(device);
  const targets = judgeTargets(measured);
  if (targets.some(({ verdict }) => verdict !== "not measured")) print(`\nTargets\n${targetsText(targets)}`);
  return { ...measured, targets };
}

/** By which clock the device is timed, for how long, and what it reaches at best. */
async function timingOf(gpu: Gpu, options: BenchOptions) {
  const budgetMs = budgetOf(options), clock = options.byProcessorTime ? processorClock : wallClock;
  const waitMs = await waitingMs(() => gpu.finished(), clock);
  return { budgetMs, waitMs, clock, ceiling: await measureCeiling(gpu, { budgetMs, waitMs, clock }) };
}

function deviceRecord(
  gpu: Gpu,
  { ceiling, date, byProcessorTime }: { ceiling: Ceiling; date: string; byProcessorTime?: boolean },
): DeviceRecord {
  const { name, deviceClass, isFallbackAdapter, subgroupSize, features } = gpu.info;
  return {
    name,
    deviceClass,
    isFallbackAdapter,
    subgroupSize,
    features: [...features],
    runtime: `Deno ${Deno.version.deno}`,
    system: `${Deno.build.os} ${Deno.build.arch}, ${countText(navigator.hardwareConcurrency, "thread")}`,
    date,
    ...(byProcessorTime ? { times: "processor time" } : {}),
    runs: "replayed",
    ceiling,
  };
}
