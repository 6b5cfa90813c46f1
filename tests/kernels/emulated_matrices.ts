import { assert } from "@std/assert";

/** The matrices of a generated text, and the arrays in workgroup memory that it loads them from. */
export interface EmulatedMatrices {
  readonly m: number;
  readonly n: number;
  readonly k: number;
  /** Threads that stand for a subgroup. */
  readonly lanes: number;
  /** Subgroups of a workgroup. */
  readonly subgroups: number;
  /** The array of left operands, of right ones, and of sums. */
  readonly arrays: { readonly left: string; readonly right: string; readonly sums: string };
}

/**
 * Emulates subgroup matrices in plain WGSL, so that a generated text can be tested with any matrix
 * size, also on devices without subgroup matrices.
 *
 * The first lane of a subgroup computes. Results are in workgroup memory, and their variables hold
 * an index. Variables of other matrices hold a place in the text's own arrays. Where such a
 * variable is assigned (`a = subgroupMatrixLoad<…>`, without `let`), the matrix is copied, as the
 * array may change while the matrix is in use.
 */
export function emulated(text: string, { m, n, k, lanes, subgroups, arrays }: EmulatedMatrices): string {
  let results = 0, kept = 0;
  const left = `subgroup_matrix_left<f16, ${k}, ${m}>`, right = `subgroup_matrix_right<f16, ${n}, ${k}>`;
  const result = `subgroup_matrix_result<f32, ${n}, ${m}>`;
  const load = (type: string, order: string, array: string) =>
    `subgroupMatrixLoad<\\s*${type},\\s*${order},?\\s*>\\(\\s*&${array},`;
  const replacements: [RegExp, string | ((...groups: string[]) => string)][] = [
    [
      /, @builtin\(subgroup_id\) subgroup: u32\) \{/,
      `) { let subgroup = thread / ${lanes}u; me = subgroup; works = thread % ${lanes}u == 0u;`,
    ],
    [new RegExp(`${result}\\(\\)`, "g"), () => `zeroed(${results++}u)`],
    [new RegExp(`var (\\w+): ${left};`, "g"), (_, name) => `var ${name} = vec3u(${kept++}u, 0u, 1u);`],
    [new RegExp(`(let \\w+ = )${load(left, "row_major", arrays.left)}`, "g"), "$1at("],
    [new RegExp(`(\\w+) = ${load(left, "row_major", arrays.left)}`, "g"), "$1 = copied($1.x,"],
    [new RegExp(load(right, "col_major", arrays.right), "g"), "vec2u("],
    [new RegExp(`(\\w+) = ${load(result, "row_major", arrays.sums)}`, "g"), "$1 = restored($1,"],
    [/subgroupMatrixMultiplyAccumulate/g, "accumulated"],
    [new RegExp(`subgroupMatrixStore<row_major>\\(&${arrays.sums},`, "g"), "store("],
  ];
  for (const [from, to] of replacements) text = text.replace(from, to as string);
  assert(!/subgroup_?matrix/i.test(text), text.split("\n").find((line) => /subgroup_?matrix/i.test(line)));
  return text + /* wgsl */ `
var<workgroup> results: array<f32, ${subgroups * results * m * n}>;
var<workgroup> copies: array<vec4<f16>, ${Math.max(1, subgroups * kept * m * k / 4)}>;
var<private> me: u32;
var<private> works: bool;
// No loop has constant bounds, lest a driver unrolls it.
fn place(result: u32) -> u32 { return (me * ${results}u + result) * ${m * n}u; }
fn zeroed(result: u32) -> u32 {
  if (works) { for (var i = me; i < me + ${m * n}u; i++) { results[place(result) + i - me] = 0.0; } }
  return result;
}
// A left operand: its first vec4 and stride, and whether it is a copy.
fn at(offset: u32, stride: u32) -> vec3u { return vec3u(offset, stride, 0u); }
fn copy_place(index: u32) -> u32 { return (me * ${kept}u + index) * ${m * k / 4}u; }
fn copied(index: u32, offset: u32, stride: u32) -> vec3u {
  if (works) {
    for (var next = me; next < me + ${m * k / 4}u; next++) {
      let i = next - me;
      copies[copy_place(index) + i] = ${arrays.left}[offset + i / ${k / 4}u * stride + i % ${k / 4}u];
    }
  }
  return vec3u(index, ${k / 4}u, 1u);
}
fn left_vec4(a: vec3u, row: u32, deep: u32) -> vec4<f16> {
  if (a.z == 1u) { return copies[copy_place(a.x) + row * a.y + deep]; }
  return ${arrays.left}[a.x + row * a.y + deep];
}
fn accumulated(a: vec3u, b: vec2u, c: u32) -> u32 {
  if (!works) { return c; }
  for (var next = me; next < me + ${m * n}u; next++) {
    let i = next - me;
    var sum = results[place(c) + i];
    for (var deep = me; deep < me + ${k / 4}u; deep++) {
      let x = vec4f(left_vec4(a, i / ${n}u, deep - me));
      let y = vec4f(${arrays.right}[b.x + i % ${n}u * b.y + deep - me]);
      sum = fma(x.x, y.x, fma(x.y, y.y, fma(x.z, y.z, fma(x.w, y.w, sum))));
    }
    results[place(c) + i] = sum;
  }
  return c;
}
fn store(offset: u32, result: u32, stride: u32) {
  if (!works) { return; }
  for (var first = me; first < me + ${m * n}u; first += 4u) {
    let i = first - me;
    let from_at = place(result) + i;
    ${arrays.sums}[offset + i / ${n}u * stride + i % ${n}u / 4u] =
      vec4f(results[from_at], results[from_at + 1u], results[from_at + 2u], results[from_at + 3u]);
  }
}
fn restored(result: u32, offset: u32, stride: u32) -> u32 {
  if (!works) { return result; }
  for (var next = me; next < me + ${m * n}u; next++) {
    let i = next - me;
    results[place(result) + i] = ${arrays.sums}[offset + i / ${n}u * stride + i % ${n}u / 4u][i % 4u];
  }
  return result;
}`;
}
