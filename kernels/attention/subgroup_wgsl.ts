import type { ConstantValues } from "../../engine/kernel/kernel.ts";
import { eachInLine, selected } from "../wgsl/text.ts";
import { startsWgsl } from "./addresses_wgsl.ts";

/** Types of the kernel's constants. */
export const subgroupConstantTypes = {
  LANES: "u32",
  QUERIES: "u32",
  KEYS: "u32",
  UNROLL_K: "u32",
  HEAD_VEC4: "u32",
  ACCESS: "u32",
  CAUSAL: "bool",
} as const;

/** What the parts of the text depend on. */
interface Context {
  readonly lanes: number;
  readonly queries: number;
  readonly keys: number;
  readonly unrollK: number;
  /** Vec4 of a head. */
  readonly headVec4: number;
  readonly isCausal: boolean;
  /** 1 or 2. */
  readonly vec4PerAccess: number;
  /** Accesses of a head. */
  readonly rowLength: number;
  /** Lanes that share a key, of which each loads a part of its row: as many as lanes / keys. */
  readonly parts: number;
  /** Accesses of a part. The last one begins earlier where the parts do not divide the row. */
  readonly partLength: number;
}

/**
 * The entry point of attention by subgroup broadcasts. The algorithm: subgroup.ts.
 *
 * Names in the generated text, for query a, key l and vec4 i of a head:
 *
 * - `q{a}_{i}` query, `k{i}` this lane's part of a key, `e{a}_{l}` score, `w{a}_{l}` weight,
 *   `o{a}_{i}` result
 * - `top{a}` running maximum, `sum{a}` running sum, `rescale{a}` correction of earlier results
 *
 * All addresses count accesses of one or two vec4.
 */
export function subgroupAttentionWgsl(constants: ConstantValues<typeof subgroupConstantTypes>): string {
  const { LANES: lanes, QUERIES: queries, KEYS: keys, UNROLL_K: unrollK, HEAD_VEC4: headVec4 } = constants;
  const { ACCESS: access, CAUSAL: isCausal } = constants;
  const rowLength = 4 * headVec4 / access, parts = lanes / keys, partLength = Math.ceil(rowLength / parts);
  const shape = { lanes, queries, keys, unrollK, headVec4, isCausal };
  const c: Context = { ...shape, vec4PerAccess: access / 4, rowLength, parts, partLength };
  return /* wgsl */ `
@compute @workgroup_size(${lanes})
fn main(@builtin(workgroup_id) group: vec3u, @builtin(subgroup_invocation_id) lane: u32) {
  ${startsWgsl(rowLength)}
  let first = group.x * ${lanes * queries}u + lane;
  // Loops count from a number that depends on the workgroup: see gemm/tile.ts.
  let first_part = group.y * params.t;
  ${loadQueries(c)}
  let end = k_start + ${isCausal ? `min(params.s, (group.x + 1u) * ${lanes * queries}u)` : "params.s"} * row;
  // Counts addresses, not keys: see subgroup.ts.
  for (var key = k_start; key < end; key += ${keys}u * row) {
    ${loadKey(c)}
    ${eachInLine(keys / unrollK, (g) => addScores(c, g * unrollK), "\n    ")}
    ${mask(c)}
    ${softmax(c)}
    ${addValues(c)}
  }
  ${writeResults(c)}
}`;
}

const perQuery = ({ queries }: Context, text: (a: number) => string, separator = " ") =>
  eachInLine(queries, text, separator);

/** Loads `count` accesses from `at` on into variables NAME0, NAME1, … of one vec4 each. */
const load = (
  { vec4PerAccess, count }: Pick<Context, "vec4PerAccess"> & { readonly count: number },
  name: string,
  { from, at }: { readonly from: string; readonly at: string },
) =>
  eachInLine(
    count,
    (p) =>
      vec4PerAccess === 1
        ? `let ${name}${p} = ${from}_at(${at} + ${p}u);`
        : `let ${name}_${p} = ${from}_at(${at} + ${p}u); let ${name}${2 * p} = ${name}_${p}[0]; let ${name}${
          2 * p + 1
        } = ${name}_${p}[1];`,
  );

/** The queries, scaled, and what starts from nothing: maxima, sums and results. */
const loadQueries = (c: Context) =>
  perQuery(
    c,
    (a) =>
      `let at${a} = q_start + min(first + ${a * c.lanes}u, params.t - 1u) * row; var top${a} = -3e38; var sum${a} = 0.0;
  ${load({ ...c, count: c.rowLength }, `p${a}_`, { from: "q", at: `at${a}` })} ${
        eachInLine(c.headVec4, (i) => `let q${a}_${i} = p${a}_${i} * params.scale; var o${a}_${i} = vec4f();`)
      }`,
    "\n  ",
  );

/** The lane's part of its key. `mine` is its address, in the values too. */
const loadKey = (c: Context) => {
  const { keys, rowLength, partLength } = c;
  return `let mine = min(key + lane % ${keys}u * row, end - row) + min(lane / ${keys}u * ${partLength}u, ${
    rowLength - partLength
  }u);
    ${load({ ...c, count: partLength }, "k", { from: "k", at: "mine" })}`;
};

/** The first access of a part of a row. */
const startOf = ({ rowLength, partLength }: Context, part: number) =>
  Math.min(part * partLength, rowLength - partLength);

/** The part of a row from which an access is taken. */
const partOf = ({ partLength }: Context, access: number) => Math.floor(access / partLength);

/** Where vec4 number i of key l is: in lane `lane`, as its vec4 number `at`. */
function held(c: Context, l: number, i: number): { lane: number; at: number } {
  const part = partOf(c, Math.floor(i / c.vec4PerAccess));
  return { lane: l + c.keys * part, at: i - startOf(c, part) * c.vec4PerAccess };
}

/**
 * The scores of keys l … l + unrollK − 1. Consecutive fma update different scores, so that none
 * waits for the previous one.
 */
function addScores(c: Context, l: number): string {
  const { headVec4, unrollK } = c;
  const broadcasts = (i: number) =>
    eachInLine(unrollK, (n) => {
      const { lane, at } = held(c, l + n, i);
      return `let b${n} = subgroupBroadcast(k${at}, ${lane}u);`;
    });
  const products = (i: number) =>
    [..."xyzw"].map((component) =>
      eachInLine(unrollK, (n) =>
        perQuery(c, (a) => {
          const e = `e${a}_${l + n}`;
          return `${e} = fma(q${a}_${i}.${component}, b${n}.${component}, ${e});`;
        }))
    ).join(" ");
  return perQuery(c, (a) => eachInLine(unrollK, (n) => `var e${a}_${l + n} = 0.0;`)) +
    eachInLine(headVec4, (i) => `{ ${broadcasts(i)} ${products(i)} }`, "\n    ");
}

/** Excludes keys past the end, and those after a causal query. */
function mask(c: Context): string {
  const limit = (a: number) => c.isCausal ? `min(end, k_start + (first + ${a * c.lanes + 1}u) * row)` : "end";
  return perQuery(
    c,
    (a) => eachInLine(c.keys, (l) => `e${a}_${l} = select(e${a}_${l}, -3e38, key + ${l}u * row >= ${limit(a)});`),
  );
}

/** The weights of the keys, relative to the new maximum. */
const softmax = (c: Context) =>
  perQuery(c, (a) =>
    `let next${a} = ${"max(".repeat(c.keys)}top${a}${eachInLine(c.keys, (l) => `, e${a}_${l})`, "")};
    let rescale${a} = exp2(top${a} - next${a}); top${a} = next${a};
    ${eachInLine(c.keys, (l) => `let w${a}_${l} = exp2(e${a}_${l} - next${a});`)}
    sum${a} = fma(sum${a}, rescale${a}, ${eachInLine(c.keys, (l) => `w${a}_${l}`, " + ")});`, "\n    ");

/** Adds the values, weighted. A lane loads the same part of a value as of its key. */
const addValues = (c: Context) =>
  eachInLine(c.partLength, (p) =>
    `{ let mine_v = v_at(mine + ${p}u); ${
      eachInLine(c.parts, (part) => {
        const access = startOf(c, part) + p;
        return partOf(c, access) === part ? addValuesOf(c, access) : "";
      })
    } }`, "\n    ");

/** Adds the values of all keys to the results' vec4 that access `p` of a row holds. */
const addValuesOf = (c: Context, p: number) =>
  eachInLine(c.vec4PerAccess, (second) => {
    const i = p * c.vec4PerAccess + second;
    const value = c.vec4PerAccess === 1 ? "mine_v" : `mine_v[${second}]`;
    const products = eachInLine(c.keys, (l) =>
      `{ let b = subgroupBroadcast(${value}, ${held(c, l, i).lane}u); ${
        perQuery(c, (a) =>
          `t${a} = fma(vec4f(w${a}_${l}), b, t${a});`)
      } }`);
    return `{ ${
      perQuery(c, (a) => `var t${a} = o${a}_${i} * rescale${a};`)
    } ${products} ${perQuery(c, (a) => `o${a}_${i} = t${a};`)} }`;
  });

/** Divides the results by the sums of weights, and stores them. */
function writeResults(c: Context): string {
  const { lanes, vec4PerAccess, rowLength } = c;
  /** The first (0) or second (1) vec4 of access `i` (a WGSL variable) of query a's result. */
  const result = (a: number, second: number) =>
    selected((p) => `o${a}_${p * vec4PerAccess + second}`, { count: rowLength, index: "i" });
  return perQuery(c, (a) =>
    `if (first + ${a * lanes}u < params.t) {
    let share = 1.0 / sum${a};
    for (var p = first_part; p < first_part + ${rowLength}u; p++) { let i = p - first_part; y_put(at${a} + i, ${
      vec4PerAccess === 1 ? result(a, 0) : `mat2x4f(${result(a, 0)}, ${result(a, 1)})`
    } * share); }
  }`, "\n  ");
}
