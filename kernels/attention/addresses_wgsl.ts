/**
 * WGSL of addresses that the kernels in one pass share. Addresses count accesses. A head's elements
 * are `rowLength` accesses of each token.
 *
 * @module
 */

/**
 * Statements: `row` is the distance of tokens, `q_start` and `k_start` are the head's first element
 * in q and y, and in k and v. `group` is the workgroup: its y tells the head, its z the image.
 */
export const startsWgsl = (rowLength: number): string =>
  `let row = params.heads * ${rowLength}u;
  let q_start = group.z * params.t * row + group.y * ${rowLength}u;
  let k_start = group.z * params.s * row + group.y * ${rowLength}u;`;

/**
 * The address of number `index` of the block of keys from `key` to `end`. Keys past the end repeat
 * the last one.
 */
export const keyAt = ({ isWhole }: { readonly isWhole: boolean }, index: string): string =>
  isWhole ? `key + ${index} * row` : `min(key + ${index} * row, end - row)`;
