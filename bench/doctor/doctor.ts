/**
 * The self-test of a device: what it is, which strategies will be used on it, whether every kernel
 * computes correctly, and how fast it is.
 *
 * @module
 */
import { countText } from "../../engine/inspect.ts";
import { NoAdapterError } from "../../engine/errors.ts";
import { Gpu } from "../../engine/gpu.ts";
import { policyOf } from "../../kernels/policy.ts";
import { TuningError } from "../../kernels/tuning.ts";
import { openTunedGpu } from "../../pipeline/tuning_file.ts";
import { familyOf } from "../report/text.ts";
import { Budget, byImportance, measurePace, type Pace, pictureMs } from "./budget.ts";
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
  /**
   * The time to stay within. What would not end in time is left out, the less important first.
   * Default: {@linkcode defaultBudget} seconds.
   */
  readonly budget?: Budget;
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
    : { strategies: [], checks: [], suspects: [], leftOut: [], errors: [] } satisfies Examination;
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
  const { checks = allChecks, budget = new Budget() } = options;
  const errors: { part: string; error: unknown }[] = [];
  const work = new Work(gpu, { ...options, budget });
  const { essential, others } = byImportance(checks);
  try {
    await work.check(essential);
    await work.draw();
    await work.check(others);
    await work.measure();
  } catch (error) {
    errors.push({ part: work.part, error });
  }
  const { results, picture, speed, leftOut } = work;
  const policy = policyOf(gpu);
  return {
    device: await deviceFacts(gpu),
    isSoftware: policy.isSoftware,
    isTuned: Object.keys(policy.tuned).length > 0,
    strategies: strategiesOf(gpu),
    checks: results,
    suspects: suspectKernels(results),
    ...(picture ? { picture } : {}),
    ...(speed ? { speed } : {}),
    budgetSeconds: budget.seconds,
    leftOut,
    errors,
  };
}

/** How many times longer a check may take than those of its family before it. */
const growth = 3;

/** The parts of an examination, each within what is left of the budget. */
class Work {
  readonly #gpu: Gpu;
  readonly #options: DoctorOptions & { readonly budget: Budget };
  readonly results: CheckResult[] = [];
  readonly #leftOut: string[] = [];
  #uncheckedCount = 0;
  picture: Examination["picture"];
  speed: Examination["speed"];
  /** The part in progress, for messages. */
  part = "checks";
  #pace?: Pace;
  #checkMs = 0;
  /** The longest check of each family. */
  readonly #longest = new Map<string, number>();

  constructor(gpu: Gpu, options: DoctorOptions & { readonly budget: Budget }) {
    this.#gpu = gpu;
    this.#options = options;
  }

  /** What there was no time for. */
  get leftOut(): string[] {
    const count = this.#uncheckedCount;
    return [...(count > 0 ? [countText(count, "check")] : []), ...this.#leftOut];
  }

  /** Runs the checks that are expected to end in time, and the first of all in any case. */
  async check(checks: readonly Check[]): Promise<void> {
    const { budget, onProgress = () => {} } = this.#options;
    this.part = "checks";
    for (const check of checks) {
      const family = familyOf(check.operation);
      if (this.results.length > 0 && !budget.allows(this.#expectedMs(family))) {
        this.#uncheckedCount++;
        continue;
      }
      onProgress(`${check.operation} ${check.shape}`);
      const started = budget.elapsedMs;
      this.results.push(await runCheck(this.#gpu, check));
      const ms = budget.elapsedMs - started;
      this.#checkMs += ms;
      this.#longest.set(family, Math.max(ms, this.#longest.get(family) ?? 0));
    }
    this.#gpu.trim();
  }

  /** The mean of all checks, or more where checks of the same family took longer. */
  #expectedMs(family: string): number {
    return Math.max(this.#checkMs / this.results.length, growth * (this.#longest.get(family) ?? 0));
  }

  async draw(): Promise<void> {
    const { model, budget, onProgress = () => {} } = this.#options;
    if (model === undefined) return;
    this.part = "picture";
    onProgress("a picture");
    if (!budget.allows(pictureMs(await this.#measuredPace()))) this.#leftOut.push("the picture");
    else this.picture = await checkPicture(this.#gpu, model);
  }

  /** Wrong results say nothing about speed, and a broken kernel may not run at all. */
  async measure(): Promise<void> {
    const { measuresSpeed = true, budget, onProgress = () => {} } = this.#options;
    const isSound = this.results.every(({ failure }) => failure === undefined) && this.picture?.failure === undefined;
    if (!measuresSpeed || !isSound) return;
    this.part = "speed";
    onProgress("speed");
    const pace = await this.#measuredPace();
    const allows = (ms: number) => budget.allows(ms);
    const { speed, leftOut } = await measureSpeed(this.#gpu, { pace, allows });
    this.speed = speed;
    this.#leftOut.push(...leftOut);
  }

  async #measuredPace(): Promise<Pace> {
    return this.#pace ??= await measurePace(this.#gpu);
  }
}
