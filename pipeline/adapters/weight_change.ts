/**
 * Changes of a weight on the host, and the forms that LyCORIS (arXiv 2309.14859) and PEFT store
 * them in. Sums are float64 and rounded once.
 *
 * A weight [out, in, k, k] is treated as a matrix [out, inside] with inside = in · k · k. A form
 * whose change has a low rank is kept as a product of two factors.
 */

/** A matrix, row-major. */
export interface Matrix {
  readonly rows: number;
  readonly columns: number;
  readonly data: Float32Array<ArrayBuffer>;
}

/** ΔW [out, inside] as up · down, or as it is. */
export type WeightChange = { readonly up: Matrix; readonly down: Matrix } | { readonly whole: Matrix };

/** A tensor of a file. */
export interface HostTensor {
  readonly shape: readonly number[];
  readonly data: Float32Array<ArrayBuffer>;
}

/** The tensor as a matrix: all axes but the first are columns. */
export function asMatrix({ shape: [rows, ...rest], data }: HostTensor): Matrix {
  return { rows, columns: rest.reduce((product, length) => product * length, 1), data };
}

/** ΔW as one matrix. */
export function expand(change: WeightChange): Matrix {
  return "whole" in change ? change.whole : multiply(change.up, change.down);
}

/** scale · ΔW. */
export function scaled(change: WeightChange, scale: number): WeightChange {
  if (scale === 1) return change;
  const times = (matrix: Matrix): Matrix => ({ ...matrix, data: matrix.data.map((value) => value * scale) });
  return "whole" in change ? { whole: times(change.whole) } : { up: times(change.up), down: change.down };
}

/** a · b */
export function multiply(a: Matrix, b: Matrix): Matrix {
  const data = new Float32Array(a.rows * b.columns), row = new Float64Array(b.columns);
  for (let i = 0; i < a.rows; i++) {
    row.fill(0);
    for (let k = 0; k < a.columns; k++) {
      const factor = a.data[i * a.columns + k];
      if (factor === 0) continue;
      const start = k * b.columns;
      for (let j = 0; j < b.columns; j++) row[j] += factor * b.data[start + j];
    }
    data.set(row, i * b.columns);
  }
  return { rows: a.rows, columns: b.columns, data };
}

/** aᵀ */
export function transposed({ rows, columns, data }: Matrix): Matrix {
  const result = new Float32Array(rows * columns);
  for (let i = 0; i < rows; i++) for (let j = 0; j < columns; j++) result[j * rows + i] = data[i * columns + j];
  return { rows: columns, columns: rows, data: result };
}

/** Plain pairs and LoCon: ΔW = up · down. */
export function pairChange(up: HostTensor, down: HostTensor): WeightChange {
  return { up: asMatrix(up), down: asMatrix(down) };
}

/**
 * Tucker's form of a convolution (LoCon's `lora_mid`): the factors are 1×1 convolutions around a
 * core [r, s, k, k], ΔW[o, i] = Σ up[o, r] · core[r, s] · down[s, i].
 */
export function tuckerPairChange(up: HostTensor, core: HostTensor, down: HostTensor): WeightChange {
  return { up: asMatrix(up), down: coreTimes(core, asMatrix(down)) };
}

/** Σₛ core[r, s, κ] · down[s, i] as a matrix [r, i · κ]. */
function coreTimes({ shape: [r, s, ...kernel], data }: HostTensor, down: Matrix): Matrix {
  const window = kernel.reduce((product, length) => product * length, 1), inputs = down.columns;
  const result = new Float32Array(r * inputs * window);
  for (let i = 0; i < r; i++) {
    for (let input = 0; input < inputs; input++) {
      for (let at = 0; at < window; at++) {
        let sum = 0;
        for (let j = 0; j < s; j++) sum += data[(i * s + j) * window + at] * down.data[j * inputs + input];
        result[(i * inputs + input) * window + at] = sum;
      }
    }
  }
  return { rows: r, columns: inputs * window, data: result };
}

/** One half of LoHa: a · b, or with a core t, as Tucker's form with aᵀ and b. */
export interface HadamardHalf {
  /** [out, r], or [r, out] with a core. */
  readonly a: HostTensor;
  /** [r, in], or [r, in · k · k] */
  readonly b: HostTensor;
  /** [r, r, k, k] */
  readonly core?: HostTensor;
}

/**
 * LoHa (arXiv 2108.06098): ΔW is the elementwise product of two products of rank r. It has rank
 * r²: (Σᵢ uᵢ vᵢᵀ) ∘ (Σⱼ pⱼ qⱼᵀ) = Σᵢⱼ (uᵢ ∘ pⱼ)(vᵢ ∘ qⱼ)ᵀ.
 */
export function hadamardChange(first: HadamardHalf, second: HadamardHalf): WeightChange {
  const [u, v] = halfFactors(first), [p, q] = halfFactors(second);
  const rank = u.columns * p.columns, out = u.rows, inside = v.columns;
  if (rank * (out + inside) >= out * inside) {
    const a = multiply(u, v), b = multiply(p, q);
    return { whole: { ...a, data: a.data.map((value, i) => value * b.data[i]) } };
  }
  const up = new Float32Array(out * rank), down = new Float32Array(rank * inside);
  for (let i = 0; i < u.columns; i++) {
    for (let j = 0; j < p.columns; j++) {
      const k = i * p.columns + j;
      for (let o = 0; o < out; o++) up[o * rank + k] = u.data[o * u.columns + i] * p.data[o * p.columns + j];
      for (let n = 0; n < inside; n++) down[k * inside + n] = v.data[i * inside + n] * q.data[j * inside + n];
    }
  }
  return { up: { rows: out, columns: rank, data: up }, down: { rows: rank, columns: inside, data: down } };
}

function halfFactors({ a, b, core }: HadamardHalf): readonly [Matrix, Matrix] {
  return core ? [transposed(asMatrix(a)), coreTimes(core, asMatrix(b))] : [asMatrix(a), asMatrix(b)];
}

/** One factor of LoKr: a whole matrix, or a product, with a core for a convolution. */
export type KroneckerFactor = { readonly whole: HostTensor } | HadamardHalf;

/**
 * LoKr: ΔW = w₁ ⊗ w₂. w₁ is a matrix [a, b]; w₂ is [c, d], or [c, d, k, k] for a convolution.
 */
export function kroneckerChange(first: KroneckerFactor, second: KroneckerFactor): WeightChange {
  const w1 = "whole" in first ? asMatrix(first.whole) : multiply(...halfFactors(first));
  const { rows: a, columns: b } = w1;
  if ("whole" in second) {
    const [, d, ...kernel] = second.whole.shape;
    return { whole: kronecker(w1, asMatrix(second.whole), d, product(kernel)) };
  }
  const [up, down] = halfFactors(second);
  const d = second.b.shape[1], window = down.columns / d;
  const rank = b * up.columns, out = a * up.rows, inside = b * down.columns;
  if (rank * (out + inside) >= out * inside) {
    return { whole: kronecker(w1, multiply(up, down), d, window) };
  }
  // w₁ ⊗ (u v) = (w₁ ⊗ u)(I ⊗ v)
  return { up: kronecker(w1, up, up.columns, 1), down: kronecker(identity(b), down, d, window) };
}

/** a ⊗ b, where a column of b is an input channel of `window` taps: [… , channel, tap]. */
function kronecker(a: Matrix, b: Matrix, channels: number, window: number): Matrix {
  const rows = a.rows * b.rows, columns = a.columns * channels * window;
  const data = new Float32Array(rows * columns), width = channels * window;
  for (let i = 0; i < a.rows; i++) {
    for (let p = 0; p < b.rows; p++) {
      const row = (i * b.rows + p) * columns;
      for (let j = 0; j < a.columns; j++) {
        const factor = a.data[i * a.columns + j];
        for (let q = 0; q < width; q++) data[row + j * width + q] = factor * b.data[p * width + q];
      }
    }
  }
  return { rows, columns, data };
}

function identity(size: number): Matrix {
  const data = new Float32Array(size * size);
  for (let i = 0; i < size; i++) data[i * (size + 1)] = 1;
  return { rows: size, columns: size, data };
}

function product(lengths: readonly number[]): number {
  return lengths.reduce((product, length) => product * length, 1);
}

/** What {@linkcode decomposedChange} reads of a layer. */
export interface BaseWeight {
  /** [out, in], or [out, in, k, k] */
  readonly shape: readonly number[];
  readonly data: Float32Array<ArrayBuffer>;
}

/**
 * DoRA (arXiv 2402.09353): the changed weight W' = W + ΔW is rescaled to the magnitudes m,
 * m ∘ W' / ‖W'‖ − W, with one magnitude per output channel or one per input channel.
 *
 * @param magnitude [out] or [in]
 * @param epsilon added to the norms
 */
export function decomposedChange(
  { shape: [out, inputs, ...kernel], data: base }: BaseWeight,
  change: WeightChange,
  { magnitude, axis, epsilon }: { magnitude: Float32Array; axis: "out" | "in"; epsilon: number },
): WeightChange {
  const window = product(kernel), inside = inputs * window;
  const { data } = expand(change);
  const squares = new Float64Array(axis === "out" ? out : inputs);
  eachChannel([out, inputs, window], axis, (channel, from, to) => {
    let sum = 0;
    for (let at = from; at < to; at++) sum += (base[at] + data[at]) ** 2;
    squares[channel] += sum;
  });
  const gains = squares.map((square, i) => magnitude[i] / (Math.sqrt(square) + epsilon));
  const rescaled = new Float32Array(base.length);
  eachChannel([out, inputs, window], axis, (channel, from, to) => {
    for (let at = from; at < to; at++) rescaled[at] = gains[channel] * (base[at] + data[at]) - base[at];
  });
  return { whole: { rows: out, columns: inside, data: rescaled } };
}

/** Runs `body` for each piece of a weight that belongs to one output or input channel. */
function eachChannel(
  [out, inputs, window]: readonly [number, number, number],
  axis: "out" | "in",
  body: (channel: number, from: number, to: number) => void,
): void {
  for (let o = 0; o < out; o++) {
    const row = o * inputs * window;
    if (axis === "out") body(o, row, row + inputs * window);
    else for (let i = 0; i < inputs; i++) body(i, row + i * window, row + (i + 1) * window);
  }
}

/** (IA)³ (arXiv 2205.05638) as LyCORIS stores it: ΔW = w ∘ W along the output or input channels. */
export function channelScaleChange(
  { shape: [out, inputs, ...kernel], data: base }: BaseWeight,
  { gain, axis }: { gain: Float32Array; axis: "out" | "in" },
): WeightChange {
  const window = product(kernel), data = new Float32Array(base.length);
  eachChannel([out, inputs, window], axis, (channel, from, to) => {
    for (let at = from; at < to; at++) data[at] = gain[channel] * base[at];
  });
  return { whole: { rows: out, columns: inputs * window, data } };
}
