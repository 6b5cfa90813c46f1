/**
 * The results of tuning as text.
 *
 * @module
 */
import type { AttentionForm } from "../../kernels/attention/form.ts";
import type { TileShape } from "../../kernels/gemm/tile.ts";
import type { TunedProduct } from "../../kernels/tuning.ts";
import type { Tuned } from "../measure/tune.ts";
import { digits } from "./text.ts";

/** A line for a tuned kind of product, product or head width: the chosen form and the times. */
export function tunedText(tuned: Tuned): string {
  const [name, form] = "kind" in tuned
    ? [tuned.kind, tileText(tuned.best)]
    : "key" in tuned
    ? [tuned.key.replaceAll("x", "×"), tuned.best ? productText(tuned.best) : "as before"]
    : [`head width ${tuned.width}`, attentionText(tuned.best)];
  const { bestMs, beforeMs, tried } = tuned;
  return `  ${name.padEnd(28)}${form.padEnd(58)}${digits(bestMs)} ms, before ${
    digits(beforeMs)
  } ms (${tried} candidates)`;
}

const productText = ({ splits, ...tile }: TunedProduct) => `${tileText(tile)}${splits > 1 ? `, k in ${splits}` : ""}`;

/** A tile as text. */
export function tileText({ strategy, lanes, rows, columns, depth }: TileShape): string {
  const size = strategy === "matrix" ? `${rows} × ${columns} per subgroup` : `${rows} rows × ${columns} vec4`;
  return `${strategy}, ${lanes} lanes: ${size}${depth === undefined ? "" : `, ${depth} deep`}`;
}

/** An attention form as text. */
export function attentionText({ path, ...sizes }: AttentionForm): string {
  const form = Object.entries(sizes).map(([name, value]) => `${name} ${value}`).join(", ");
  return form === "" ? path : `${path}: ${form}`;
}
