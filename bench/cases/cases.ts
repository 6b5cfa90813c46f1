/**
 * The kernels and sizes that the bench measures: the shapes of Stable Diffusion 1.4 at 512², the
 * most common of SDXL at 1024², those of the embedded pocket model, and square shapes for
 * comparison with published figures.
 *
 * @module
 */
import type { Gpu } from "../../engine/gpu.ts";
import { elements, Tensor } from "../../engine/tensor.ts";
import { activate } from "../../kernels/shape/activate.ts";
import { attention } from "../../kernels/attention/attention.ts";
import { cholesky } from "../../kernels/linalg/cholesky.ts";
import { concat } from "../../kernels/shape/concat.ts";
import { conv2d, packConvWeight } from "../../kernels/conv/conv2d.ts";
import { geglu } from "../../kernels/gemm/gated_product.ts";
import { gram } from "../../kernels/linalg/gram.ts";
import { groupNorm } from "../../kernels/norm/group_norm.ts";
import { layerNorm } from "../../kernels/norm/layer_norm.ts";
import { linearCombination } from "../../kernels/shape/linear_combination.ts";
import { matmul } from "../../kernels/gemm/matmul.ts";
import { policyOf } from "../../kernels/policy.ts";
import { slice } from "../../kernels/shape/slice.ts";
import { triangularSolve } from "../../kernels/linalg/triangular_solve.ts";
import { operands, operandShapes, type PeerTask, squareTask, taskFlops, testValues } from "./task.ts";
import { guidedTasks, guidedXLTasks, mostCommonCount } from "./unet_shapes.ts";

/** The origin of a shape. */
export type CaseSet = "square" | "unet" | "sdxl" | "text" | "vae" | "pocket" | "edit";

/** A kernel at one size. */
export interface KernelCase {
  readonly set: CaseSet;
  readonly kernel: string;
  readonly shape: string;
  /** The same work for other engines. */
  readonly task?: PeerTask;
  /**
   * Bytes that one run moves. For copies, which are no kernel on some devices and report no cost.
   */
  readonly bytes?: number;
  /** Number of occurrences in a guided step of Stable Diffusion 1.4 at 512². */
  readonly perStep?: number;
  /** Whether peers are measured only with `--filter`, because they would take minutes. */
  readonly peersOnRequest?: boolean;
  /** Whether the case takes too long on software devices. */
  readonly forGpus?: boolean;
  /** Whether software devices measure the case with `--filter` only. */
  readonly onRequest?: boolean;
  /** The element type of the arithmetic. Default: f32. */
  readonly real?: (gpu: Gpu) => "f32" | "f64";
  /** Creates the operands and the function to time. */
  readonly prepare: (gpu: Gpu) => PreparedCase;
}

/** Operands on the device, and one run over them. */
export interface PreparedCase extends Disposable {
  /** Records one run. The result belongs to the enclosing scope. */
  run(): Tensor;
}

function prepared(run: () => Tensor, operands: readonly Disposable[]): PreparedCase {
  return { run, [Symbol.dispose]: () => operands.forEach((operand) => operand[Symbol.dispose]()) };
}

/**
 * Prepares a task for this project's kernels. They use subgroup matrices where these are enabled
 * and the operands may be rounded to f16.
 */
export function prepareTask(
  gpu: Gpu,
  task: PeerTask,
  { allowF16Operands = true }: { allowF16Operands?: boolean } = {},
): PreparedCase {
  const shapes = operandShapes(task);
  const tensors = operands(task).map((values, index) => Tensor.from(gpu, values, shapes[index]));
  switch (task.op) {
    case "matmul":
      return prepared(() => matmul(tensors[0], tensors[1], { transposeB: task.transposeB, allowF16Operands }), tensors);
    case "conv2d": {
      const weight = packConvWeight(tensors[1]);
      const options = { stride: task.stride, padding: task.kernel >> 1, allowF16Operands };
      return prepared(() => conv2d(tensors[0], weight, options), [...tensors, weight]);
    }
    case "attention":
      return prepared(
        () => attention(tensors[0], tensors[1], tensors[2], { heads: task.heads, allowF16Operands }),
        tensors,
      );
  }
}

type CaseNotes = Pick<KernelCase, "forGpus" | "onRequest" | "perStep" | "peersOnRequest">;

function taskCase(set: CaseSet, task: PeerTask, shape: string, more: CaseNotes = {}): KernelCase {
  const kernel = task.op === "conv2d" ? `conv2d ${task.kernel}×${task.kernel}` : task.op;
  return {
    set,
    kernel,
    shape: `${set} ${shape}`,
    task,
    ...more,
    prepare: (gpu) => prepareTask(gpu, task, { allowF16Operands: set !== "text" }),
  };
}

/** The size of a task as text. */
function sizeOf(task: PeerTask): string {
  const pictures = "batch" in task && task.batch > 1 ? `${task.batch} × ` : "";
  switch (task.op) {
    case "matmul":
      return `${task.m}×${task.k}×${task.n}`;
    case "conv2d":
      return `${pictures}${task.side}² ${task.inChannels}→${task.outChannels}` +
        (task.stride > 1 ? ` stride ${task.stride}` : "");
    case "attention":
      return `${pictures}${task.t}×${task.s} ${task.heads} of ${task.dim}`;
  }
}

/** A matrix product [m, k] · [k, n]. */
function product(set: CaseSet, [m, k, n]: readonly [number, number, number], note = "", transposeB = true): KernelCase {
  const task: PeerTask = { op: "matmul", m, k, n, transposeB };
  return taskCase(set, task, `${sizeOf(task)}${note && ` ${note}`}`);
}

function square(side: number, more: CaseNotes = {}): KernelCase {
  return taskCase("square", squareTask(side), `${side}³`, more);
}

function convolution(
  set: CaseSet,
  [side, inChannels, outChannels]: readonly [number, number, number],
  { kernel = 3, stride = 1, batch = 1, ...more }: { kernel?: number; stride?: number; batch?: number } & CaseNotes = {},
): KernelCase {
  const task: PeerTask = { op: "conv2d", batch, inChannels, outChannels, side, kernel, stride };
  return taskCase(set, task, sizeOf(task), more);
}

function heads(
  set: CaseSet,
  [t, s, count, dim]: readonly [number, number, number, number],
  { batch = 1, ...more }: { batch?: number } & CaseNotes = {},
): KernelCase {
  const task: PeerTask = { op: "attention", batch, heads: count, t, s, dim };
  return taskCase(set, task, sizeOf(task), more);
}

/**
 * Attention on a given path, to compare with the path that the policy selects. `streamed` is the
 * device's path with one pass over the keys. There is no peer task, because peers measure the same
 * shape in another case.
 */
function headsBy(
  path: "staged" | "streamed",
  batch: number,
  [t, s, count, dim]: readonly [number, number, number, number],
): KernelCase {
  const task: PeerTask = { op: "attention", batch, heads: count, t, s, dim };
  const shapes = operandShapes(task);
  return {
    set: "unet",
    kernel: `attention, ${path}`,
    shape: `unet ${sizeOf(task)}`,
    prepare: (gpu) => {
      const tensors = operands(task).map((values, index) => Tensor.from(gpu, values, shapes[index]));
      const streamed = policyOf(gpu).isSoftware && gpu.info.subgroupSize > 0 ? "subgroup" : "workgroup";
      const options = { heads: count, path: path === "staged" ? path : streamed } as const;
      return prepared(() => attention(tensors[0], tensors[1], tensors[2], options), tensors);
    },
  };
}

/** A kernel over one tensor, with smaller tensors as parameters. */
function pass(
  set: CaseSet,
  kernel: string,
  [shape, ...rest]: readonly (readonly number[])[],
  run: (x: Tensor, rest: readonly Tensor[]) => Tensor,
  more: { bytes?: number } = {},
): KernelCase {
  return {
    set,
    kernel,
    shape: `${set} ${shape.join("×")}`,
    ...more,
    prepare: (gpu) => {
      const tensors = [shape, ...rest].map((each, i) => Tensor.from(gpu, testValues(elements(each), i + 1), each));
      return prepared(() => run(tensors[0], tensors.slice(1)), tensors);
    },
  };
}

const norm = (set: CaseSet, shape: readonly number[], groups: number): KernelCase =>
  pass(
    set,
    "group_norm + silu",
    [shape, [shape[1]], [shape[1]]],
    (x, [weight, bias]) => groupNorm(x, { groups, weight, bias, epsilon: 1e-5, activation: "silu" }),
  );

const rowNorm = (set: CaseSet, shape: readonly number[]): KernelCase =>
  pass(
    set,
    "layer_norm",
    [shape, [shape[1]], [shape[1]]],
    (x, [weight, bias]) => layerNorm(x, { weight, bias, epsilon: 1e-5 }),
  );

/** A kernel of the edit solver, in f64 where the device supports it. */
function editCase(
  kernel: string,
  shape: string,
  prepare: (gpu: Gpu, real: "f32" | "f64") => PreparedCase,
): KernelCase {
  const real = (gpu: Gpu) => gpu.info.f64 ? "f64" : "f32";
  return { set: "edit", kernel, shape: `edit ${shape}`, real, prepare: (gpu) => prepare(gpu, real(gpu)) };
}

/** Rows and row width of an edit at the sizes of SD 1.4: 4 sentences of 77 tokens. */
const [rows, width] = [308, 768];

function rowsTensor(gpu: Gpu, columns: number, real: "f32" | "f64"): Tensor {
  return Tensor.from(gpu, Float64Array.from(testValues(rows * columns)), [rows, columns], real);
}

/** λI + CCᵀ, positive definite. */
function system(gpu: Gpu, real: "f32" | "f64"): Tensor {
  return gpu.scope(() => {
    const diagonal = Tensor.from(gpu, new Float64Array(rows).fill(10), [rows], real);
    return gram(rowsTensor(gpu, width, real), { diagonal });
  });
}

/** All cases, in the order of the table. */
export const kernelCases: readonly KernelCase[] = [
  square(512),
  square(1024),
  square(1920),
  square(2048),
  square(4096, { forGpus: true }),
  product("square", [8, 2048, 2048], "skinny"),
  product("square", [2048, 2048, 8], "skinny"),

  // A guided step at 512² as a batch of two. Slow peers measure the most common shapes only.
  ...guidedTasks.map(({ task, perStep }, rank) =>
    taskCase("unet", task, sizeOf(task), { perStep, peersOnRequest: rank >= mostCommonCount })
  ),
  ...guidedXLTasks.map(({ task }) => taskCase("sdxl", task, sizeOf(task), { onRequest: true, peersOnRequest: true })),
  // Once per picture.
  product("unet", [154, 768, 320], "context k v"),
  product("unet", [154, 768, 640], "context k v"),
  product("unet", [154, 768, 1280], "context k v"),
  product("text", [77, 768, 768], "q k v out"),
  product("text", [77, 768, 3072], "ff in"),
  product("pocket", [512, 64, 64], "q k v out"),
  product("pocket", [512, 64, 512], "ff in"),
  product("pocket", [128, 96, 96], "q k v out"),
  product("pocket", [77, 128, 128], "text"),

  convolution("vae", [64, 512, 512]),
  convolution("vae", [256, 256, 256]),
  convolution("vae", [512, 128, 128], { peersOnRequest: true }),
  convolution("vae", [512, 128, 3]),
  convolution("pocket", [16, 64, 64], { batch: 2 }),
  convolution("pocket", [16, 160, 64], { batch: 2 }),
  convolution("pocket", [8, 96, 96], { batch: 2 }),
  convolution("pocket", [4, 128, 128], { batch: 2 }),
  convolution("pocket", [16, 4, 64], { batch: 2 }),
  convolution("pocket", [16, 64, 64], { batch: 2, stride: 2 }),
  convolution("pocket", [8, 96, 96], { batch: 2, stride: 2 }),
  convolution("pocket", [16, 64, 64], { batch: 2, kernel: 1 }),
  convolution("pocket", [32, 64, 64]),
  convolution("pocket", [64, 32, 16]),
  convolution("pocket", [64, 16, 16]),

  heads("square", [1024, 1024, 1, 64]),
  heads("text", [77, 77, 12, 64]),
  heads("vae", [4096, 4096, 1, 512], { peersOnRequest: true }),
  heads("pocket", [256, 256, 4, 16], { batch: 2 }),
  heads("pocket", [256, 77, 4, 16], { batch: 2 }),
  heads("pocket", [64, 64, 4, 24], { batch: 2 }),
  heads("pocket", [256, 256, 1, 64]),

  // One pass over the keys against stored blocks of scores. Which is faster depends on the head
  // width.
  headsBy("staged", 2, [4096, 4096, 8, 40]),
  headsBy("staged", 2, [1024, 1024, 8, 80]),
  headsBy("staged", 2, [1024, 77, 8, 80]),
  headsBy("staged", 2, [256, 256, 8, 160]),
  headsBy("streamed", 2, [256, 256, 8, 160]),
  headsBy("streamed", 2, [256, 77, 8, 160]),

  norm("unet", [2, 320, 64, 64], 32),
  norm("unet", [2, 1280, 16, 16], 32),
  norm("vae", [1, 128, 512, 512], 32),
  norm("pocket", [2, 64, 16, 16], 32),
  norm("pocket", [1, 16, 64, 64], 4),
  rowNorm("unet", [8192, 320]),
  rowNorm("unet", [512, 1280]),
  rowNorm("pocket", [512, 64]),
  pass("text", "quick_gelu", [[154, 3072]], (x) => activate(x, "quick_gelu")),
  pass("unet", "geglu", [[8192, 2560]], (x) => geglu(x)),
  pass("pocket", "geglu", [[512, 512]], (x) => geglu(x)),
  pass("unet", "concat", [[2, 320, 64, 64], [2, 640, 64, 64]], (x, [other]) => concat([x, other], 1), {
    bytes: 8 * 2 * 960 * 64 * 64,
  }),
  pass("unet", "slice", [[2, 960, 64, 64]], (x) => slice(x, 1, 320, 640), { bytes: 8 * 2 * 320 * 64 * 64 }),
  pass(
    "unet",
    "linear_combination",
    [[2, 320, 64, 64], [2, 320, 64, 64]],
    (x, [other]) => linearCombination([{ tensor: x, coefficient: 0.5 }, { tensor: other, coefficient: 0.5 }]),
  ),

  editCase("gram", `${rows}×${width}`, (gpu, real) => {
    const c = rowsTensor(gpu, width, real);
    return prepared(() => gram(c), [c]);
  }),
  editCase("cholesky", `${rows}`, (gpu, real) => {
    const a = system(gpu, real);
    return prepared(() => cholesky(a).lower, [a]);
  }),
  editCase("triangular_solve", `${rows} × ${2 * width} columns`, (gpu, real) => {
    const factor = gpu.scope(() => {
      const { lower, inverses, pivots, size } = cholesky(system(gpu, real));
      return { lower, inverses, pivots, size };
    });
    const b = rowsTensor(gpu, 2 * width, real);
    const whole = {
      ...factor,
      [Symbol.dispose]: () => [factor.lower, factor.inverses, factor.pivots].forEach((each) => each[Symbol.dispose]()),
    };
    return prepared(() => triangularSolve(whole, b), [whole, b]);
  }),
];

/**
 * The cases whose kernel and shape match a regular expression. On software devices, cases for GPUs
 * are left out, and without an expression those on request; with `quick`, also large ones.
 */
export function casesFor(
  { filter, isSoftware, quick }: { filter?: RegExp; isSoftware: boolean; quick: boolean },
): KernelCase[] {
  return kernelCases.filter(({ kernel, shape, task, forGpus, onRequest }) =>
    (!forGpus || !isSoftware) && (!onRequest || !isSoftware || filter !== undefined) &&
    (!filter || filter.test(`${kernel} ${shape}`)) &&
    (!quick || !task || taskFlops(task) < (isSoftware ? 3e9 : 1e12))
  );
}
