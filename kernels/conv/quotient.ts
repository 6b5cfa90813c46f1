/**
 * WGSL of `quotient(dividend, per_divisor)`: ⌊dividend / divisor⌋ by the factor 1 / divisor, for
 * whole numbers of the WGSL type `type`. Integer division is slow on software devices.
 *
 * The 0.5 makes it exact for dividends below 2²², far above the length of any sum.
 */
export const quotientWgsl = (type: "u32" | "f32"): string => /* wgsl */ `
fn quotient(dividend: ${type}, per_divisor: f32) -> ${type} { return ${
  type === "u32" ? "u32((f32(dividend) + 0.5) * per_divisor)" : "floor((dividend + 0.5) * per_divisor)"
}; }
`;
