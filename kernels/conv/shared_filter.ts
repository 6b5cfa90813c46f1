/**
 * How a subgroup holds the weights of a few output channels for four input channels: filters of 9
 * vec4, one for each tap.
 *
 * A subgroup has more lanes than rows, so several lanes share a filter, and each loads a chunk of
 * its taps: the lane with number row + chunk · rows loads those from chunk · length on, as t0, t1
 * and so on.
 *
 * @module
 */
import { each } from "../wgsl/text.ts";

/** Texts for the filters that the lanes of a subgroup share. */
export interface SharedFilters {
  /** Vec4 of a chunk: what a lane loads of a filter. */
  readonly length: number;
  /**
   * WGSL that declares w0, w1, …, the addresses of the lane's vec4.
   *
   * @param start WGSL expression: the address of a filter's first vec4
   */
  readonly addresses: (start: string) => string;
  /** WGSL that broadcasts the vec4 of a row's tap, or a `component` of it, such as `.x`. */
  readonly weight: (row: number, tap: number, component?: string) => string;
}

/** Shares the filters of `rows` output channels among `lanes`. */
export function sharedFilters(lanes: number, rows: number): SharedFilters {
  const chunks = Math.max(1, Math.min(9, Math.floor(lanes / rows))), length = Math.ceil(9 / chunks);
  return {
    length,
    addresses: (start) => /* wgsl */ `
  let chunk = min(lane / ${rows}u, ${chunks - 1}u);
  ${
      each(length, (i) =>
        `let tap${i} = min(chunk * ${length}u + ${i}u, 8u);
  let w${i} = ${start} + tap${i} / 3u * params.weight_kernel_row + tap${i} % 3u;`)
    }`,
    weight: (row, tap, component = "") => {
      const chunk = Math.floor(tap / length);
      return `subgroupBroadcast(t${tap - chunk * length}${component}, ${row + chunk * rows}u)`;
    },
  };
}
