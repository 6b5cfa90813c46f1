/**
 * Measures the edit at the sizes of Stable Diffusion 1.4, beside the TIME authors' algorithm in
 * PyTorch. Embeddings and weights are synthetic, with the sizes, norms and similarities of real
 * ones.
 *
 * @module
 */
import type { Gpu } from "../../engine/gpu.ts";
import { Tensor } from "../../engine/tensor.ts";
import { matmul } from "../../kernels/gemm/matmul.ts";
import { policyOf } from "../../kernels/policy.ts";
import { symmetricEigen } from "../../pipeline/editing/solve/symmetric_eigen.ts";
import { solveOperator } from "../../pipeline/editing/solve/edit_system.ts";
import { PythonProcess } from "../peers/python_process.ts";
import { torchPlaces } from "../peers/torch.ts";
import type { StageRecord } from "../report/report.ts";
import { testValues } from "../cases/task.ts";
import { deviceWork, hostWork, time, type TimingOptions } from "./timing.ts";

/**
 * Sentences (the prompt and three augmentations), tokens per sentence, and width of the embeddings.
 */
const sentences = 4, tokens = 77, clipWidth = 768;
/** Tokens per sentence before the padding. */
const words = 8;
/** ‖x‖ of a row of CLIP's last hidden state. */
const norm = 28;
/** Output features of to_k and of to_v in the 16 cross-attention layers. */
export const projectionWidths: readonly number[] = [
  ...[320, 320, 640, 640, 1280, 1280],
  1280,
  ...[1280, 1280, 1280, 640, 640, 640, 320, 320, 320],
];
const lamb = 0.1;

/**
 * Rows [308, width] (default width: 768) of an edit, similar to CLIP's. All sentences start with
 * the same row. The words before the edited one are equal on both sides. Each word has a row of its
 * own. The padding of a sentence is 69 rows that drift slowly apart, since CLIP encodes positions.
 */
export function syntheticRows(
  options: { width?: number } = {},
): { source: Float32Array<ArrayBuffer>; destination: Float32Array<ArrayBuffer> } {
  const { width = clipWidth } = options;
  const noise = testValues(width * (2 + 2 * sentences * (tokens + 1)), 11);
  let next = 0;
  const fresh = () => noise.subarray(next, next += width);
  const [begin, common] = [fresh(), fresh()];
  const row = (...parts: readonly (readonly [Float32Array, number])[]) => {
    const sum = new Float32Array(width);
    for (const [part, factor] of parts) for (let j = 0; j < width; j++) sum[j] += factor * part[j];
    const scale = norm / Math.hypot(...sum);
    return sum.map((value) => value * scale);
  };
  const firstRow = row([begin, 1]);
  const source = new Float32Array(sentences * tokens * width), destination = source.slice();
  for (let sentence = 0; sentence < sentences; sentence++) {
    const pads = [row([fresh(), 1]), row([fresh(), 1])];
    for (let token = 0; token < tokens; token++) {
      const at = (sentence * tokens + token) * width;
      const [own, other] = [fresh(), fresh()];
      const isEdited = token >= words / 2;
      const of = (side: 0 | 1) => {
        if (token === 0) return firstRow;
        if (token < words) return row([common, 0.5], [own, 1], [other, isEdited ? side : 0]);
        return row([common, 0.5], [pads[side], 1]);
      };
      source.set(of(0), at);
      destination.set(of(1), at);
      if (token >= words) [own, other].forEach((step, side) => pads[side] = row([pads[side], 1], [step, 0.05]));
    }
  }
  return { source, destination };
}

/** The 32 projection matrices [outputs, 768]: to_k and to_v of each layer. */
function projections(gpu: Gpu): Tensor[] {
  return projectionWidths.flatMap((outputs) =>
    [1, 2].map((seed) =>
      Tensor.from(gpu, testValues(outputs * clipWidth, seed).map((value) => value * Math.sqrt(3 / clipWidth)), [
        outputs,
        clipWidth,
      ])
    )
  );
}

/** Options of {@linkcode measureEdit}. */
export interface EditBenchOptions extends TimingOptions {
  readonly waitMs: number;
  /** A Python with PyTorch. Default: none. */
  readonly python?: string;
  /** Channels of the eigenproblems of null-space edits. */
  readonly eigenWidths: readonly number[];
  readonly onStage: (stage: StageRecord) => void;
  readonly onRemark: (remark: string) => void;
}

/**
 * Solves and bakes an edit on the device. With a Python, PyTorch runs the authors' algorithm on the
 * same input.
 */
export async function measureEdit(gpu: Gpu, options: EditBenchOptions): Promise<void> {
  const { onStage, onRemark, python } = options;
  const rows = syntheticRows();
  const shape = [sentences * tokens, clipWidth];
  using source = Tensor.from(gpu, rows.source, shape);
  using destination = Tensor.from(gpu, rows.destination, shape);

  const solve = async (precision: "f64" | "f32") => {
    using _ = await solveOperator(gpu, { source, destination }, { lamb, precision });
  };
  const times: Record<string, number> = {};
  for (const precision of gpu.info.f64 ? ["f64", "f32"] as const : ["f32"] as const) {
    times[precision] = (await time(hostWork(() => solve(precision)), options)).minMs;
    onStage({
      stage: `edit at SD 1.4's sizes: solve, ${precision === "f64" ? "f64" : "refined f32"}`,
      ms: times[precision],
    });
  }

  using operator = await solveOperator(gpu, { source, destination }, { lamb });
  const { report } = operator;
  const { left, right } = operator.thin();
  const matrices = projections(gpu);
  try {
    const bake = () => {
      for (const matrix of matrices) matmul(matmul(matrix, left, { transposeB: true }), right, { residual: matrix });
    };
    const { minMs } = await time(deviceWork(gpu, bake, options), options);
    onStage({ stage: `edit at SD 1.4's sizes: bake ${matrices.length} matrices`, ms: minMs });
  } finally {
    for (const tensor of [...matrices, left, right]) tensor[Symbol.dispose]();
  }
  onRemark(
    `edit: ${report?.rows} rows, ${report?.mergedRows} after merging, rank ${report?.rank}, condition ${
      report?.conditionEstimate.toExponential(1)
    }, residual ${report?.residual.toExponential(1)}`,
  );
  for (const width of options.eigenWidths) {
    onStage({ stage: `null-space edit: eigenproblem of ${width} channels, on the host`, ms: eigenMs(width) });
  }
  if (python) {
    const oursMs = Math.min(...Object.values(times));
    const { isSoftware } = policyOf(gpu);
    await measureTorch(rows, { ...options, python, isSoftware, oursMs });
  }
}

/** Time of one dense symmetric eigenproblem in float64; it does not depend on the values. */
function eigenMs(width: number): number {
  const values = testValues(width * width, 3);
  const start = performance.now();
  symmetricEigen(values, width);
  return performance.now() - start;
}

async function measureTorch(
  { source, destination }: ReturnType<typeof syntheticRows>,
  options: EditBenchOptions & { python: string; isSoftware: boolean; oursMs: number },
): Promise<void> {
  const { python, oursMs, onStage, onRemark } = options;
  try {
    const [{ device }] = (await torchPlaces(python, options)).places;
    using process = new PythonProcess(python, "torch_edit.py");
    const answer = await process.ask(
      { sentences, tokens, width: clipWidth, lamb, widths: projectionWidths, device },
      [source, destination],
    ) as { version: string; threads: number; outerMs: number; productMs: number };
    const place = device === "cpu" ? `CPU, ${answer.threads} threads` : "CUDA";
    const torch = `PyTorch ${answer.version} ${place}`;
    for (
      const [name, ms] of [["the authors' loop", answer.outerMs], [
        "the loop by matrix products",
        answer.productMs,
      ]] as const
    ) {
      onStage({ stage: `edit at SD 1.4's sizes: ${name}, ${torch}`, ms });
      onRemark(`edit: ${name} in ${torch} takes ${(ms / oursMs).toFixed(1)} times the time of our solver`);
    }
  } catch (error) {
    onRemark(`edit: PyTorch: ${error instanceof Error ? error.message : error}`);
  }
}
