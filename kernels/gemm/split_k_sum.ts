import { declareKernel, input, output } from "../../engine/kernel/kernel.ts";
import type { Tensor } from "../../engine/tensor.ts";
import { flatGrid, flatWgsl } from "../wgsl/elementwise.ts";
import { vectorType } from "../wgsl/text.ts";

/**
 * y = Σₚ partsₚ + bias + residual, summed in the order of the parts: the second dispatch of a
 * product with a split K (see matmul.ts). Atomic additions would need one dispatch only, but their
 * order, and with it the rounding, would differ from run to run.
 */
const sumPartsKernel = declareKernel({
  name: "sum_parts",
  bindings: { parts: input("WIDTH"), bias: input(1), residual: input("WIDTH"), y: output("WIDTH") },
  params: { parts_count: "u32", count: "u32", n: "u32", bias_axis: "u32", has_residual: "u32" },
  constants: { WIDTH: "u32", vector: "type" },
  wgsl: ({ WIDTH }) => /* wgsl */ `
fn bias_of(column: u32) -> vector { return ${
    WIDTH === 4
      ? "vec4f(bias_at(column), bias_at(column + 1u), bias_at(column + 2u), bias_at(column + 3u))"
      : "bias_at(column)"
  }; }
fn element(i: u32) {
  var sum = parts_at(i);
  for (var part = 1u; part < params.parts_count; part++) { sum += parts_at(i + part * params.count); }
  let row = i * WIDTH / params.n;
  if (params.bias_axis == 1u) { sum += bias_of(i * WIDTH % params.n); }
  if (params.bias_axis == 2u) { sum += bias_at(row); }
  if (params.has_residual == 1u) { sum += residual_at(i); }
  y_put(i, sum);
}
${flatWgsl("params.count")}`,
  grid: ({ count }) => flatGrid(count),
  cost: ({ parts_count, count }, { WIDTH }) => ({
    flops: WIDTH * count * parts_count,
    bytes: 4 * WIDTH * count * (parts_count + 1),
  }),
});

/** Sums `parts` [P, M, N] over P into `y` [M, N]; adds a bias [N] or [M] and a residual [M, N]. */
export function sumParts(
  parts: Tensor,
  y: Tensor,
  { bias, biasAxis = "column", residual }: { bias?: Tensor; biasAxis?: "row" | "column"; residual?: Tensor },
): void {
  const [count, m, n] = parts.dims(3);
  const vectorWidth = n % 4 === 0 ? 4 : 1;
  sumPartsKernel.run(
    parts.gpu,
    { parts, bias: bias ?? parts, residual: residual ?? parts, y },
    {
      parts_count: count,
      count: m * n / vectorWidth,
      n,
      bias_axis: bias ? (biasAxis === "row" ? 2 : 1) : 0,
      has_residual: residual ? 1 : 0,
    },
    { WIDTH: vectorWidth, vector: vectorType(vectorWidth) },
  );
}
