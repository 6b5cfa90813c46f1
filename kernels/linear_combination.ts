import { ShapeError } from "../engine/errors.ts";
import { declareKernel, input, output, spread } from "../engine/kernel.ts";
import { Tensor } from "../engine/tensor.ts";

const combinationKernel = declareKernel({
  name: "linear_combination",
  bindings: { a: input(4), b: input(4), c: input(4), d: input(4), e: input(4), f: input(4), y: output(4) },
  params: { quads: "u32", ca: "f32", cb: "f32", cc: "f32", cd: "f32", ce: "f32", cf: "f32" },
  constants: ["TERMS"],
  wgsl: /* wgsl */ `
@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = (group.x + group.y * groups.x) * 64u + lane;
  if (i >= params.quads) { return; }
  var sum = params.ca * a_at(i);
  if (TERMS > 1) { sum = fma(vec4f(params.cb), b_at(i), sum); }
  if (TERMS > 2) { sum = fma(vec4f(params.cc), c_at(i), sum); }
  if (TERMS > 3) { sum = fma(vec4f(params.cd), d_at(i), sum); }
  if (TERMS > 4) { sum = fma(vec4f(params.ce), e_at(i), sum); }
  if (TERMS > 5) { sum = fma(vec4f(params.cf), f_at(i), sum); }
  y_put(i, sum);
}`,
  grid: ({ quads }) => spread(Math.ceil(quads / 64)),
  cost: ({ quads }, { TERMS }) => ({
    flops: quads * 8 * (TERMS as number),
    bytes: quads * 16 * (1 + (TERMS as number)),
  }),
});

/** coefficient · tensor */
export interface LinearTerm {
  readonly tensor: Tensor;
  readonly coefficient: number;
}

/**
 * Σ coefficient · tensor over 1 to 6 terms of one shape.
 *
 * @throws {ShapeError} when the shapes differ, RangeError for another number of terms
 */
export function linearCombination(terms: readonly LinearTerm[]): Tensor {
  if (terms.length < 1 || terms.length > 6) {
    throw new RangeError(`Cannot combine ${terms.length} terms: 1 to 6 are taken`);
  }
  const [{ tensor: first }] = terms;
  for (const { tensor } of terms) {
    if (tensor.shape.join() !== first.shape.join()) {
      throw new ShapeError(
        `Cannot combine [${first.shape.join(", ")}] and [${
          tensor.shape.join(", ")
        }] linearly as all terms must have one shape`,
        [first.shape, tensor.shape],
      );
    }
  }
  const y = Tensor.empty(first.gpu, first.shape);
  const at = (i: number) => terms[i] ?? { tensor: first, coefficient: 0 };
  const [a, b, c, d, e, f] = Array.from({ length: 6 }, (_, i) => at(i).tensor);
  const [ca, cb, cc, cd, ce, cf] = Array.from({ length: 6 }, (_, i) => at(i).coefficient);
  combinationKernel.run(
    first.gpu,
    { a, b, c, d, e, f, y },
    { quads: Math.ceil(first.size / 4), ca, cb, cc, cd, ce, cf },
    { TERMS: terms.length },
  );
  return y;
}

/** a + b, of one shape. */
export function add(a: Tensor, b: Tensor): Tensor {
  return linearCombination([{ tensor: a, coefficient: 1 }, { tensor: b, coefficient: 1 }]);
}

const guideKernel = declareKernel({
  name: "guide",
  bindings: { x: input(1), y: output(1) },
  params: { size: "u32", scale: "f32" },
  wgsl: /* wgsl */ `
@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = (group.x + group.y * groups.x) * 64u + lane;
  if (i >= params.size) { return; }
  let unconditional = x_at(i);
  y_put(i, unconditional + params.scale * (x_at(i + params.size) - unconditional));
}`,
  grid: ({ size }) => spread(Math.ceil(size / 64)),
  cost: ({ size }) => ({ flops: 3 * size, bytes: 12 * size }),
});

/**
 * Classifier-free guidance (2207.12598): u + scale · (c − u), with u the first and c the second half of the batch.
 *
 * @param x [2B, …]
 * @returns [B, …]
 * @throws {ShapeError} when the batch is odd
 */
export function guide(x: Tensor, scale: number): Tensor {
  const [batch, ...rest] = x.shape;
  if (batch === undefined || batch % 2 !== 0) {
    throw new ShapeError(`Cannot guide [${x.shape.join(", ")}] as its first axis must hold two halves`, [x.shape]);
  }
  const y = Tensor.empty(x.gpu, [batch / 2, ...rest]);
  guideKernel.run(x.gpu, { x, y }, { size: y.size, scale });
  return y;
}
