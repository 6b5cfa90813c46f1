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

/** The inputs beside the two ends of a subgroup, of four channels. */
export interface EdgeInputs {
  /**
   * WGSL that loads them, each lane one or two. It reads `edge_plane`, the first element of channel
   * lane % 4, and `end_left` and `end_right`, the places of these inputs in it.
   */
  readonly load: string;
  /** The input of channel j that is to the left of the first lane's. */
  readonly left: (j: number) => string;
  /** The input of channel j that is to the right of the last lane's. */
  readonly right: (j: number) => string;
}

/** @param group ends the names in the text: the number of a group of outputs. Default: none */
export function edgeInputs(lanes: number, group: number | "" = ""): EdgeInputs {
  const left = (j: number) => `subgroupBroadcast(edges${group}, ${j}u)`;
  // Eight lanes load the inputs beside both ends at once.
  return lanes >= 8
    ? {
      load:
        `let edges${group} = x_element_at(edge_plane + select(end_left${group}, end_right${group}, lane % 8u >= 4u));`,
      left,
      right: (j) => `subgroupBroadcast(edges${group}, ${j + 4}u)`,
    }
    : {
      load:
        `let edges${group} = x_element_at(edge_plane + end_left${group}); let edges_right${group} = x_element_at(edge_plane + end_right${group});`,
      left,
      right: (j) => `subgroupBroadcast(edges_right${group}, ${j}u)`,
    };
}
