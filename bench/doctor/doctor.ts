/**
 * The self-test of a device: what it is, which strategies will be used on it, whether every kernel
 * computes correctly, and how fast it is.
 *
 * @module
 */
import { NoAdapterError } from "../../engine/errors.ts";
import { Gpu } from "../../engine/gpu.ts";
import { policyOf } from "../../kernels/policy.ts";
import { TuningError } from "../../kernels/tuning.ts";
import { openTunedGpu } from "../../pipeline/tuning_file.ts";
import { type Check, type CheckResult, runCheck, suspectKernels } from "./check.ts";
import { checks as allChecks } from "./checks/checks.ts";
import { deviceFacts } from "./device_facts.ts";
import { checkPicture } from "./picture.ts";
import type { DoctorReport, Examination } from "./report.ts";
import { measureSpeed } from "./speed.ts";
import { strategiesOf } from "./strategies.ts";
import { judge } from "./verdict.ts";

/** Options of {@linkcode diagnose}. */
export interface DoctorOptions {
  /** Program, runtime and system, as reports name them. */
  readonly program: string;
  /** Folder of the embedded model; without it, no picture is drawn. */
  readonly model?: string;
  /** Whether to measure speed. Default: true. */
  readonly measuresSpeed?: boolean;
  /** The checks to run. Default: all. */
  readonly checks?: readonly Check[];
  /** Called before each part and each check, with what comes next. */
  readonly onProgress?: (next: string) => void;
}

/** Opens the device that commands use, examines it and judges it. */
export async function diagnose(options: DoctorOptions): Promise<DoctorReport> {
  const started = performance.now();
  const errors: { part: string; error: unknown }[] = [];
  let gpu: Gpu | undefined;
  try {
    gpu = await openTunedGpu();
  } catch (error) {
    errors.push({ part: "open", error });
    // Without the tuning, the device itself can still be examined.
    if (error instanceof TuningError) gpu = await Gpu.request().catch(() => undefined);
    else if (!(error instanceof NoAdapterError)) throw error;
  }
  using opened = gpu;
  const found = opened
    ? await examine(opened, options)
    : { strategies: [], checks: [], suspects: [], errors: [] } satisfies Examination;
  return reportOf({ ...found, errors: [...errors, ...found.errors] }, options, started);
}

/** Examines an open device and judges it. */
export async function diagnoseGpu(gpu: Gpu, options: DoctorOptions): Promise<DoctorReport> {
  const started = performance.now();
  return reportOf(await examine(gpu, options), options, started);
}

function reportOf(found: Examination, { program }: DoctorOptions, started: number): DoctorReport {
  const { errors: _, ...facts } = found;
  const seconds = Math.round((performance.now() - started) / 100) / 10;
  return { program, ...facts, ...judge(found), seconds };
}

async function examine(gpu: Gpu, options: DoctorOptions): Promise<Examination> {
  const { model, measuresSpeed = true, checks = allChecks, onProgress = () => {} } = options;
  const results: CheckResult[] = [];
  const errors: { part: string; error: unknown }[] = [];
  const policy = policyOf(gpu);
  let picture: Examination["picture"], speed: Examination["speed"];
  let part = "checks";
  try {
    for (const check of checks) {
      onProgress(`${check.operation} ${check.shape}`);
      results.push(await runCheck(gpu, check));
    }
    gpu.trim();
    part = "picture";
    onProgress("a picture");
    if (model !== undefined) picture = await checkPicture(gpu, model);
    // Wrong results say nothing about speed, and a broken kernel may not run at all.
    const isSound = results.every(({ failure }) => failure === undefined) && picture?.failure === undefined;
    part = "speed";
    onProgress("speed");
    if (measuresSpeed && isSound) speed = await measureSpeed(gpu);
  } catch (error) {
    errors.push({ part, error });
  }
  return {
    device: await deviceFacts(gpu),
    isSoftware: policy.isSoftware,
    isTuned: Object.keys(policy.tuned).length > 0,
    strategies: strategiesOf(gpu),
    checks: results,
    suspects: suspectKernels(results),
    ...(picture ? { picture } : {}),
    ...(speed ? { speed } : {}),
    errors,
  };
}
