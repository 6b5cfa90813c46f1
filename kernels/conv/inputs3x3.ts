/**
 * How the 3×3 kernels for software devices load the inputs of a lane's adjacent outputs, for a
 * channel and an image row, and which of them meet which weight.
 *
 * One access moves as many inputs as there are outputs, or eight with stride 2. The inputs beside a
 * lane's own come from the lanes beside: see neighbors.ts.
 *
 * @module
 */

/** WGSL names that a kernel gives to what {@linkcode Inputs.load} reads. */
export interface InputNames {
  /** Ends the names `middle`, `odd` and `even`: the number of a group of outputs. Default: none. */
  readonly group?: number;
  /** Condition: the image row lies within the image, and so does the channel. */
  readonly inside: string;
  /** Condition: so does the input to the left of the lane's own. */
  readonly inLeft: string;
  /** Condition: so does the input to the right. */
  readonly inRight: string;
}

/** The inputs of a lane's adjacent outputs. */
export interface Inputs {
  /** Variables that hold them, by name, of one letter each. */
  readonly types: Readonly<Record<string, "f32" | "vec4f">>;
  /**
   * WGSL that declares the variables. It reads `p`, the first element of the image row, and
   * `edge_left` and `edge_right`, the inputs beside the subgroup's.
   */
  readonly load: (names: InputNames) => string;
  /** The operands of the three taps, for each vec4 of outputs. */
  readonly taps: readonly (readonly [string, string, string])[];
}

/**
 * The inputs of 4 or 8 adjacent outputs.
 *
 * @param pad padding at the left; 1 with stride 1
 */
export const inputsOf = (outputs: number, stride: number, pad: number): Inputs =>
  stride === 2 ? strideTwo(outputs, pad) : outputs === 8 ? eightOutputs : fourOutputs;

/** An operand of {@linkcode Inputs.taps} whose variables end in `suffix`. */
export const suffixed = (operand: string, suffix: string): string =>
  operand.replaceAll(/\b[elmnoqr]\b/g, (name) => `${name}${suffix}`);

/*
 * With stride 1: the left neighbor `l`, the inputs `m` (and `n`) at the outputs' positions, and the
 * right neighbor `r`.
 *
 * When the input is upsampled, half of the access is used, each input for two outputs: the first
 * half (`even`) or the second half (`odd`). The neighbor on the unused side then lies in the same
 * access.
 */
const fourOutputs: Inputs = {
  types: { l: "f32", m: "vec4f", r: "f32" },
  load: ({ group = "", inside, inLeft, inRight }) =>
    `let all = x_at((p + middle${group}) / 4u);
    let h = select(all.xy, all.zw, odd${group});
    let m = select(vec4f(), select(all, h.xxyy, is_upsampled), ${inside});
    let l = select(0.0, select(before(all.w, edge_left), all.y, odd${group}), ${inLeft});
    let r = select(0.0, select(after(all.x, edge_right), all.z, even${group}), ${inRight});`,
  taps: [["vec4f(l, m.xyz)", "m", "vec4f(m.yzw, r)"]],
};

const eightOutputs: Inputs = {
  types: { l: "f32", m: "vec4f", n: "vec4f", r: "f32" },
  load: ({ group = "", inside, inLeft, inRight }) =>
    `let all = x_at((p + middle${group}) / 8u);
    let h = select(all[0], all[1], odd${group});
    let m = select(vec4f(), select(all[0], h.xxyy, is_upsampled), ${inside});
    let n = select(vec4f(), select(all[1], h.zzww, is_upsampled), ${inside});
    let l = select(0.0, select(before(all[1].w, edge_left), all[0].w, odd${group}), ${inLeft});
    let r = select(0.0, select(after(all[0].x, edge_right), all[1].x, even${group}), ${inRight});`,
  taps: [["vec4f(l, m.xyz)", "m", "vec4f(m.yzw, n.x)"], ["vec4f(m.w, n.xyz)", "n", "vec4f(n.yzw, r)"]],
};

/**
 * With stride 2: `m` and `n` (and `o` and `q`) at twice the outputs' positions, and the neighbor
 * `e` on the padded side.
 */
function strideTwo(outputs: number, pad: number): Inputs {
  const names = outputs === 8 ? ["m", "n", "o", "q"] : ["m", "n"];
  const last = outputs / 4 - 1; // number of the last access
  return {
    types: { ...Object.fromEntries(names.map((name) => [name, "vec4f" as const])), e: "f32" },
    load: ({ group = "", inside, inLeft, inRight }) => {
      const accesses = Array.from(
        { length: last + 1 },
        (_, i) => `let all${i} = x_at((p + middle${group}) / 8u + ${i}u);`,
      );
      const halves = names.map((name, i) => `let ${name} = select(vec4f(), all${i >> 1}[${i % 2}], ${inside});`);
      const beside = pad === 1
        ? `before(all${last}[1].w, edge_left), ${inLeft}`
        : `after(all0[0].x, edge_right), ${inRight}`;
      return [...accesses, ...halves, `let e = select(0.0, ${beside});`].join("\n    ");
    },
    taps: Array.from({ length: last + 1 }, (_, i) => {
      const [m, n] = names.slice(2 * i);
      const even = `vec4f(${m}.xz, ${n}.xz)`, odd = `vec4f(${m}.yw, ${n}.yw)`;
      return pad === 1
        ? [`vec4f(${i === 0 ? "e" : `${names[2 * i - 1]}.w`}, ${m}.yw, ${n}.y)`, even, odd]
        : [even, odd, `vec4f(${m}.z, ${n}.xz, ${i === last ? "e" : `${names[2 * i + 2]}.x`})`];
    }),
  };
}
