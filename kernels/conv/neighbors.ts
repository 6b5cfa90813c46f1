/**
 * WGSL of `before(value, end)` and `after(value, end)`: the value of the lane before or after this
 * one, for lanes that hold adjacent pixels. The first and the last lane of the subgroup receive
 * `end`, as their neighbors are in no lane. The entry point sets `own_lane` to its lane.
 *
 * A shuffle costs an instruction, a load about a hundred.
 */
export function neighborsWgsl(lanes: number): string {
  const neighbor = (name: string, shift: number, last: number) => /* wgsl */ `
fn ${name}(value: f32, end: f32) -> f32 {
  return select(subgroupShuffle(value, (own_lane + ${shift}u) % ${lanes}u), end, own_lane == ${last}u);
}`;
  return `
var<private> own_lane: u32;${neighbor("before", lanes - 1, 0)}${neighbor("after", 1, lanes - 1)}
`;
}
