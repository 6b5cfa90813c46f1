/**
 * The roofline plot: the rate of each kernel against its arithmetic intensity, below the device's
 * two limits.
 *
 * @module
 */
import { escape } from "./html.ts";
import type { BenchReport, KernelRecord } from "./report.ts";
import { digits, percent } from "./text.ts";

const plot = { width: 960, height: 520, left: 70, right: 20, top: 20, bottom: 50 };

/** Rates that the plot's logarithmic axes have room for, in GFLOPS and GB/s. */
const least = 1e-9, most = 1e9;

/** Ticks of a logarithmic axis: powers of ten from the one below `low` to the one above `high`. */
export function decades(low: number, high: number): number[] {
  const first = Math.floor(Math.log10(low)), last = Math.ceil(Math.log10(high));
  return Array.from({ length: last - first + 1 }, (_, i) => 10 ** (first + i));
}

/** The plot as SVG. */
export function rooflineSvg(
  { device: { ceiling }, kernels }: BenchReport,
  colorOf: (kernel: KernelRecord) => string,
): string {
  const isDrawn = (value: number) => value >= least && value <= most;
  if (!isDrawn(ceiling.gflops) || !isDrawn(ceiling.gbps)) {
    return '<p class="note">No roofline: the record holds no ceiling of the device.</p>';
  }
  const points = kernels.filter(({ gflops, gbps }) => isDrawn(gflops) && isDrawn(gbps));
  const ridge = ceiling.gflops / ceiling.gbps;
  const intensities = [...points.map(({ gflops, gbps }) => gflops / gbps), ridge];
  const xTicks = decades(Math.min(...intensities), Math.max(...intensities));
  // A noisy ceiling can lie below a kernel.
  const heights = [...points.map(({ gflops }) => gflops), ceiling.gflops];
  const yTicks = decades(Math.min(...heights, ceiling.gflops / 10), Math.max(...heights));
  const scale = (ticks: readonly number[], from: number, to: number) => (value: number) => {
    const [low, high] = [Math.log10(ticks[0]), Math.log10(ticks.at(-1)!)];
    return Number((from + (to - from) * (Math.log10(value) - low) / (high - low)).toFixed(1));
  };
  const x = scale(xTicks, plot.left, plot.width - plot.right), y = scale(yTicks, plot.height - plot.bottom, plot.top);
  const [xLow, xHigh, yLow] = [xTicks[0], xTicks.at(-1)!, yTicks[0]];
  // The slanted line can start below the plot: clip it to the plot.
  const entry = Math.max(xLow, yLow / ceiling.gbps);
  const roof = [[entry, entry * ceiling.gbps], [ridge, ceiling.gflops], [xHigh, ceiling.gflops]];
  return `<svg viewBox="0 0 ${plot.width} ${plot.height}" role="img" aria-label="Roofline: GFLOPS against FLOP per byte">
${
    xTicks.map((tick) =>
      `<line class="grid" x1="${x(tick)}" x2="${x(tick)}" y1="${plot.top}" y2="${plot.height - plot.bottom}"/>` +
      `<text x="${x(tick)}" y="${plot.height - plot.bottom + 18}" text-anchor="middle">${tickText(tick)}</text>`
    ).join("\n")
  }
${
    yTicks.map((tick) =>
      `<line class="grid" x1="${plot.left}" x2="${plot.width - plot.right}" y1="${y(tick)}" y2="${y(tick)}"/>` +
      `<text x="${plot.left - 8}" y="${y(tick) + 4}" text-anchor="end">${tickText(tick)}</text>`
    ).join("\n")
  }
<text x="${(plot.left + plot.width - plot.right) / 2}" y="${plot.height - 10}" text-anchor="middle">FLOP per byte</text>
<text transform="translate(16 ${plot.height / 2}) rotate(-90)" text-anchor="middle">GFLOPS</text>
<polyline class="roof" points="${roof.map(([at, height]) => `${x(at)},${y(height)}`).join(" ")}"/>
${
    points.map((kernel) =>
      `<circle cx="${x(kernel.gflops / kernel.gbps)}" cy="${y(kernel.gflops)}" r="5" fill="${
        colorOf(kernel)
      }" fill-opacity="0.75"><title>${
        escape(
          `${kernel.kernel} ${kernel.shape}: ${digits(kernel.gflops)} GFLOPS, ${digits(kernel.gbps)} GB/s, ${
            percent(kernel.share)
          } of the ceiling`,
        )
      }</title></circle>`
    ).join("\n")
  }
</svg>`;
}

function tickText(tick: number): string {
  return tick >= 1e4 || tick < 1e-3 ? tick.toExponential(0) : String(Number(tick.toPrecision(1)));
}
