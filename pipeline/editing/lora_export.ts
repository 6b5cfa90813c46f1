/**
 * Edits as LoRA files: ΔW = W(E − I) = (WPᵀ)·Q is a product of two thin matrices as it stands.
 */

import type { Gpu } from "../../engine/gpu.ts";
import { Tensor } from "../../engine/tensor.ts";
import { gram } from "../../kernels/linalg/gram.ts";
import { linearCombination } from "../../kernels/shape/linear_combination.ts";
import { matmul } from "../../kernels/gemm/matmul.ts";
import { squaredNorms } from "../../kernels/linalg/squared_norms.ts";
import { EditError } from "../errors.ts";
import type { TensorEntry } from "../checkpoint/safetensors/writer.ts";
import { saveSafetensors } from "../checkpoint/save.ts";
import { computedEntry, type SavedDtype } from "../checkpoint/safetensors/tensor_stream.ts";
import type { EditableModel } from "./editable_model.ts";
import type { EditOperator } from "./operator.ts";
import { symmetricEigen } from "./solve/symmetric_eigen.ts";

/** How the keys of a LoRA file are spelled. */
export type LoraFormat = "diffusers" | "kohya";

/** Options of an export. */
export interface LoraExportOptions {
  /**
   * Rank of each matrix's update; what is left out is the least of all matrices together. Default:
   * what is exact.
   */
  readonly rank?: number;
  /** Default: "f32". */
  readonly dtype?: SavedDtype;
  /** "kohya" is what A1111 and ComfyUI read; diffusers reads both. Default: "kohya". */
  readonly format?: LoraFormat;
}

/** What an exported file is, and costs. */
export interface LoraReport {
  /** Path of the file. */
  readonly path: string;
  /** Matrices that it changes. */
  readonly matrices: number;
  /** The largest rank among them. */
  readonly rank: number;
  /** ‖ΔW − truncated ΔW‖ / ‖ΔW‖ over all matrices; 0 where nothing was left out. */
  readonly truncationError: number;
  /** The same for rounding to f16; 0 in f32. */
  readonly roundingError: number;
}

/** An edit as far as an export reads it. */
export interface ExportableEdit {
  /** The solved edit. */
  readonly operator: EditOperator;
  /** Whether the edit changes the keys or the values of a layer. */
  edits(layer: string, role: "keys" | "values"): boolean;
}

/** One matrix with the key of its module. */
interface Matrix {
  readonly module: string;
  readonly weight: Tensor;
}

/** Matrices that one operator changes. */
interface Group {
  readonly operator: EditOperator;
  readonly matrices: readonly Matrix[];
}

/** ΔW = up · down on the host. */
interface Update {
  readonly module: string;
  /** [features, rank] */
  readonly up: Float32Array<ArrayBuffer>;
  /** [rank, width] */
  readonly down: Float32Array<ArrayBuffer>;
  readonly features: number;
  readonly rank: number;
  readonly width: number;
}

/**
 * Writes edits, the first pushed first, as one LoRA.
 *
 * @throws {EditError} when the rank is out of range or nothing is edited
 */
export async function exportLora(
  path: string,
  edits: readonly ExportableEdit[],
  options: LoraExportOptions & { model: EditableModel },
): Promise<LoraReport> {
  const { rank, dtype = "f32", format = "kohya", model } = options;
  if (rank !== undefined && !(Number.isInteger(rank) && rank > 0)) {
    throw new EditError(`Cannot export a LoRA of rank ${rank} as it must be a whole number above 0`);
  }
  const { groups, owned } = groupMatrices(edits, model);
  try {
    const updates: Update[] = [];
    let lost = 0, total = 0;
    for (const group of groups) {
      const made = rank !== undefined && rank < group.operator.rank
        ? await truncatedUpdates(group, rank)
        : { updates: await exactUpdates(group), lost: 0, total: 1 };
      updates.push(...made.updates);
      lost += made.lost;
      total += made.total;
    }
    if (updates.length === 0) throw new EditError(`Cannot export a LoRA to ${path} as the edit changes no matrix`);
    const largest = Math.max(...updates.map((update) => update.rank));
    // diffusers' format has no alpha: its loader takes one rank for all and would scale matrices of
    // another.
    const equal = format === "diffusers" ? updates.map((update) => padded(update, largest)) : updates;
    const balancedUpdates = equal.map(balanced);
    const roundingError = dtype === "f16" ? await halfError(model.gpu, balancedUpdates) : 0;
    await saveSafetensors(path, balancedUpdates.flatMap((update) => entries(update, dtype, format)), {
      metadata: {
        format: "pt",
        ss_network_module: "networks.lora",
        ss_network_dim: `${largest}`,
        ss_network_alpha: `${largest}`,
      },
    });
    return {
      path,
      matrices: updates.length,
      rank: largest,
      truncationError: Math.sqrt(lost / (total || 1)),
      roundingError,
    };
  } finally {
    for (const operator of owned) operator[Symbol.dispose]();
  }
}

/**
 * Which operator changes which matrices. Edits of different layers make several groups; composed
 * operators are the caller's to dispose of.
 */
function groupMatrices(
  edits: readonly ExportableEdit[],
  model: EditableModel,
): { groups: Group[]; owned: EditOperator[] } {
  const byEdits = new Map<string, { chosen: ExportableEdit[]; matrices: Matrix[] }>();
  for (const { path, toK, toV } of model.crossAttentions) {
    for (const [role, name, { weight }] of [["keys", "to_k", toK], ["values", "to_v", toV]] as const) {
      const chosen = edits.filter((edit) => edit.operator.rank > 0 && edit.edits(path, role));
      if (chosen.length === 0) continue;
      const key = chosen.map((edit) => edits.indexOf(edit)).join();
      const group = byEdits.get(key) ?? { chosen, matrices: [] };
      group.matrices.push({ module: `${path}.${name}`, weight });
      byEdits.set(key, group);
    }
  }
  const owned: EditOperator[] = [];
  const groups = [...byEdits.values()].map(({ chosen, matrices }) => {
    let { operator } = chosen[0];
    for (const next of chosen.slice(1)) { // W·E₁·E₂ …: the later edit meets the embedding first
      operator = operator.compose(next.operator);
      owned.push(operator);
    }
    return { operator, matrices };
  });
  return { groups, owned };
}

/** up = WPᵀ, down = Q; or, where W has fewer rows than Q, up = I, down = ΔW. */
async function exactUpdates({ operator, matrices }: Group): Promise<Update[]> {
  const { left, right } = operator.factors;
  const { width } = operator;
  const shared = await right?.data();
  const updates: Update[] = [];
  for (const { module, weight } of matrices) {
    const features = weight.shape[0];
    using up = matmul(weight, left, { transposeB: true }); // [features, rank]
    if (right && operator.rank <= features) {
      updates.push({ module, up: await up.data(), down: shared!, features, rank: operator.rank, width });
      continue;
    }
    using change = right ? matmul(up, right) : up.reshape(up.shape); // [features, width]
    const values = await change.data();
    updates.push(
      features <= width
        ? { module, up: identity(features), down: values, features, rank: features, width }
        : { module, up: values, down: identity(width), features, rank: width, width },
    );
  }
  return updates;
}

/**
 * The best updates that share `rank` directions of the embeddings: the leading right singular
 * vectors V of all ΔW stacked, up = ΔW·Vᵀ, down = V. With G = QQᵀ and K = Σ (WPᵀ)ᵀ(WPᵀ) they come
 * from symmetric problems of the operator's rank.
 */
async function truncatedUpdates(
  { operator, matrices }: Group,
  rank: number,
): Promise<{ updates: Update[]; lost: number; total: number }> {
  const { gpu, width } = operator;
  const [ups, factors] = gpu.scope(() => {
    const { left, right } = operator.thin();
    return [matrices.map(({ weight }) => matmul(weight, left, { transposeB: true })), { right }] as const;
  });
  const all = [...ups, factors.right];
  try {
    const { right } = factors;
    const size = operator.rank;
    const grams = gpu.scope(() => [gram(right), ...ups.map((up) => gram(up, { of: "columns" }))]);
    const [g, ...squares] = await Promise.all(grams.map((tensor) => tensor.float64()));
    for (const tensor of grams) tensor[Symbol.dispose]();
    const k = squares[0];
    for (const other of squares.slice(1)) for (let i = 0; i < k.length; i++) k[i] += other[i];

    const basis = symmetricEigen(g, size); // G = Zᵀ diag(g) Z, rows of Z
    // the rest is f32's rounding
    const kept = basis.values.filter((value) => value > 1e-7 * basis.values[0]).length;
    // M = g^½ Z K Zᵀ g^½
    const m = new Float64Array(kept * kept);
    const kz = new Float64Array(size);
    for (let b = 0; b < kept; b++) {
      for (let i = 0; i < size; i++) {
        let sum = 0;
        for (let j = 0; j < size; j++) {
          sum += (j <= i ? k[i * size + j] : k[j * size + i]) * basis.vectors[b * size + j];
        }
        kz[i] = sum;
      }
      for (let a = b; a < kept; a++) {
        let sum = 0;
        for (let i = 0; i < size; i++) sum += basis.vectors[a * size + i] * kz[i];
        m[a * kept + b] = sum * Math.sqrt(basis.values[a] * basis.values[b]);
      }
    }
    const directions = symmetricEigen(m, kept);
    const count = Math.min(rank, kept);
    // V = Y g^-½ Z Q: its coefficients over Q's rows first.
    const coefficients = new Float32Array(count * size);
    for (let v = 0; v < count; v++) {
      for (let b = 0; b < kept; b++) {
        const factor = directions.vectors[v * kept + b] / Math.sqrt(basis.values[b]);
        for (let i = 0; i < size; i++) coefficients[v * size + i] += factor * basis.vectors[b * size + i];
      }
    }
    const [down, overlap] = gpu.scope(() => {
      const v = matmul(Tensor.from(gpu, coefficients, [count, size]), right); // [count, width]
      return [v, matmul(right, v, { transposeB: true })]; // QVᵀ [size, count]
    });
    all.push(down, overlap);
    const shared = await down.data();
    const updates: Update[] = [];
    let lost = 0, total = 0;
    for (const [index, { module, weight }] of matrices.entries()) {
      using up = matmul(ups[index], overlap); // ΔW·Vᵀ
      updates.push({ module, up: await up.data(), down: shared, features: weight.shape[0], rank: count, width });
      // The eigenvalues left out would say it too, but f32's rounding of the largest drowns the
      // smallest.
      const measured = await squaredDistance(gpu, () => [matmul(ups[index], right), matmul(up, down)]);
      lost += measured.difference;
      total += measured.norm;
    }
    return { updates, lost, total };
  } finally {
    for (const tensor of all) tensor[Symbol.dispose]();
  }
}

function identity(side: number): Float32Array<ArrayBuffer> {
  const values = new Float32Array(side * side);
  for (let i = 0; i < side; i++) values[i * (side + 1)] = 1;
  return values;
}

/** The same product at a higher rank: zeros beside `up` and below `down`. */
function padded(update: Update, rank: number): Update {
  if (update.rank === rank) return update;
  const { features, width } = update;
  const up = new Float32Array(features * rank), down = new Float32Array(rank * width);
  for (let i = 0; i < features; i++) {
    up.set(update.up.subarray(i * update.rank, (i + 1) * update.rank), i * rank);
  }
  down.set(update.down);
  return { ...update, up, down, rank };
}

/**
 * The same product with columns of `up` and rows of `down` of like size, by powers of two: f16 has
 * few small numbers.
 */
function balanced(update: Update): Update {
  const { rank, width, features } = update;
  const up = update.up.slice(), down = update.down.slice();
  for (let k = 0; k < rank; k++) {
    let ups = 0, downs = 0;
    for (let i = 0; i < features; i++) ups = Math.max(ups, Math.abs(up[i * rank + k]));
    for (let j = 0; j < width; j++) downs = Math.max(downs, Math.abs(down[k * width + j]));
    if (ups === 0 || downs === 0) continue;
    const scale = 2 ** Math.round(Math.log2(downs / ups) / 2);
    for (let i = 0; i < features; i++) up[i * rank + k] *= scale;
    for (let j = 0; j < width; j++) down[k * width + j] /= scale;
  }
  return { ...update, up, down };
}

/** ‖X − Y‖² and ‖X‖² of two tensors. */
async function squaredDistance(
  gpu: Gpu,
  make: () => readonly [Tensor, Tensor],
): Promise<{ difference: number; norm: number }> {
  const [differences, norms] = gpu.scope(() => {
    const [x, y] = make();
    const change = linearCombination([{ tensor: x, coefficient: 1 }, { tensor: y, coefficient: -1 }]);
    return [squaredNorms(change), squaredNorms(x)];
  });
  using a = differences;
  using b = norms;
  const [difference, norm] = (await Promise.all([a.data(), b.data()]))
    .map((values) => values.reduce((sum, value) => sum + value, 0));
  return { difference, norm };
}

/** ‖up·down − half(up)·half(down)‖ / ‖up·down‖ over all updates. */
async function halfError(gpu: Gpu, updates: readonly Update[]): Promise<number> {
  const rounded = (values: Float32Array<ArrayBuffer>) => new Float32Array(new Float16Array(values));
  let difference = 0, norm = 0;
  for (const { up, down, features, rank, width } of updates) {
    const product = (a: Float32Array<ArrayBuffer>, b: Float32Array<ArrayBuffer>) =>
      matmul(Tensor.from(gpu, a, [features, rank]), Tensor.from(gpu, b, [rank, width]));
    const measured = await squaredDistance(gpu, () => [product(up, down), product(rounded(up), rounded(down))]);
    difference += measured.difference;
    norm += measured.norm;
  }
  return Math.sqrt(difference / (norm || 1));
}

function entries(update: Update, dtype: SavedDtype, format: LoraFormat): TensorEntry[] {
  const { module, up, down, features, rank, width } = update;
  const matrix = (name: string, shape: number[], values: Float32Array<ArrayBuffer>) =>
    computedEntry(name, shape, dtype, () => Promise.resolve(values));
  if (format === "diffusers") {
    return [
      matrix(`unet.${module}.lora.down.weight`, [rank, width], down),
      matrix(`unet.${module}.lora.up.weight`, [features, rank], up),
    ];
  }
  const name = `lora_unet_${module.replaceAll(".", "_")}`;
  return [
    matrix(`${name}.lora_down.weight`, [rank, width], down),
    matrix(`${name}.lora_up.weight`, [features, rank], up),
    // Loaders scale by alpha / rank.
    matrix(`${name}.alpha`, [], new Float32Array([rank])),
  ];
}
