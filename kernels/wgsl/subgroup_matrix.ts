/** Sizes of a device's subgroup matrices. */
export interface MatrixSizes {
  /** Rows of left operands and of results. */
  readonly m: number;
  /** Columns of right operands and of results. */
  readonly n: number;
  /** Columns of left operands, rows of right ones. */
  readonly k: number;
}

/** WGSL that works with subgroup matrices: see {@linkcode subgroupMatrixWgsl}. */
export interface SubgroupMatrixWgsl {
  /** Type of a left operand. */
  readonly left: string;
  /** Expression: a result of zeros. */
  readonly zero: string;
  /** Expression: a left operand, stored by rows. */
  readonly loadLeft: (array: string, at: string, stride: number) => string;
  /** Expression: a right operand, stored by columns. */
  readonly loadRight: (array: string, at: string, stride: number) => string;
  /** Expression: a result, stored by rows. */
  readonly loadResult: (array: string, at: string, stride: number) => string;
  /** Statement: stores a result by rows. */
  readonly storeResult: (array: string, at: string, result: string, stride: number) => string;
  /** Statement: result += left · right. */
  readonly multiply: (result: string, left: string, right: string) => string;
}

/**
 * WGSL of Dawn's experimental subgroup matrices: left operands [m, k] and right operands [k, n] of
 * f16, results [m, n] of f32.
 *
 * Matrices are loaded from arrays of vec4 in workgroup memory. `at` is the WGSL expression of a
 * matrix's first vec4. `stride` is the distance between its rows (columns of right operands), in
 * vec4. The types name columns before rows.
 */
export function subgroupMatrixWgsl({ m, n, k }: MatrixSizes): SubgroupMatrixWgsl {
  const left = `subgroup_matrix_left<f16, ${k}, ${m}>`, right = `subgroup_matrix_right<f16, ${n}, ${k}>`;
  const result = `subgroup_matrix_result<f32, ${n}, ${m}>`;
  const load = (type: string, order: string) => (array: string, at: string, stride: number) =>
    `subgroupMatrixLoad<${type}, ${order}>(&${array}, ${at}, ${stride}u)`;
  return {
    left,
    zero: `${result}()`,
    loadLeft: load(left, "row_major"),
    loadRight: load(right, "col_major"),
    loadResult: load(result, "row_major"),
    storeResult: (array, at, result, stride) =>
      `subgroupMatrixStore<row_major>(&${array}, ${at}, ${result}, ${stride}u);`,
    multiply: (result, left, right) => `${result} = subgroupMatrixMultiplyAccumulate(${left}, ${right}, ${result});`,
  };
}
