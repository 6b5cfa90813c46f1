/**
 * Renders a bench run as one self-contained HTML page: targets, a roofline plot, the table of
 * kernels, and the stages.
 *
 * @module
 */
import { type BenchReport, type KernelRecord, summarizePeers, type TargetRecord } from "./report.ts";
import { compilationText, digits, fullSizeText, peerText, percent } from "./text.ts";

const plot = { width: 960, height: 520, left: 70, right: 20, top: 20, bottom: 50 };

/** One color per kernel family; remaining families share the last. */
const colors = ["#3b6fd4", "#d4573b", "#2f9e5b", "#8a4fc7", "#c79a1e", "#1f9fae", "#c2437f", "#7a7a7a"];

/** The HTML page of a run. */
export function benchPage(report: BenchReport): string {
  const { device, kernels, stages, fullSize = [], compilation, targets = [] } = report;
  const { ceiling } = device;
  const families = [...new Set(kernels.map(familyOf))];
  const color = (family: string) => colors[Math.min(families.indexOf(family), colors.length - 1)];
  const peers = [...new Set(kernels.flatMap(({ peers = {} }) => Object.keys(peers)))];
  const facts = [
    device.system,
    device.runtime,
    `subgroups of ${device.subgroupSize}`,
    device.date.slice(0, 16).replace("T", " ") + " UTC",
  ];
  return `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Blue Rose bench: ${escape(device.name)}</title>
<style>
:root { color-scheme: light dark; --ink: light-dark(#222, #ddd); --faint: light-dark(#8886, #8886); --paper: light-dark(#fff, #16181d); }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 1000px; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2rem; }
pre { overflow-x: auto; font-size: 0.85rem; }
svg { width: 100%; height: auto; } svg text { font-size: 12px; fill: var(--ink); }
.grid { stroke: var(--faint); stroke-width: 0.5; } .roof { stroke: var(--ink); stroke-width: 2; fill: none; }
.legend { display: flex; flex-wrap: wrap; gap: 0.3rem 1.2rem; list-style: none; padding: 0; }
.legend span { display: inline-block; width: 0.75em; height: 0.75em; border-radius: 50%; margin-right: 0.4em; }
.table { overflow-x: auto; } table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { padding: 0.15rem 0.6rem; text-align: right; white-space: nowrap; border-bottom: 0.5px solid var(--faint); }
th { font-weight: 600; } th:first-child, td:first-child, .text { text-align: left; }
meter { width: 6em; }
</style>
<h1>${escape(device.name)}</h1>
<p>${facts.map(escape).join(" · ")}<br>
Peak rates of the device, measured in the same run: <b>${digits(ceiling.gflops)} GFLOPS</b>${
    ceiling.gflopsF64 === undefined ? "" : ` (f64: ${digits(ceiling.gflopsF64)})`
  }, <b>${digits(ceiling.gbps)} GB/s</b> by a kernel that copies (${
    digits(ceiling.bufferGbps)
  } GB/s by buffer copies).</p>
${targetTable(targets)}
<h2>Roofline</h2>
${kernels.length > 0 ? rooflineSvg(report, (kernel) => color(familyOf(kernel))) : "<p>No kernels were measured.</p>"}
<ul class="legend">${
    families.map((family) => `<li><span style="background:${color(family)}"></span>${escape(family)}</li>`).join("")
  }</ul>
<h2>Kernels</h2>
<div class="table"><table>
<tr><th>kernel<th class="text">shape<th>per step<th>ms<th>GFLOPS<th>GB/s<th>of the ceiling<th>${
    peers.map((peer) => `<th>${escape(peer)}`).join("")
  }</tr>
${kernels.map((kernel) => kernelRow(kernel, peers)).join("\n")}
</table></div>
${summarizePeers(kernels).map((summary) => `<p>${escape(peerText(summary))}</p>`).join("\n")}
<h2>Stages</h2>
<div class="table"><table>
<tr><th>stage<th>ms</tr>
${stages.map(({ stage, ms }) => `<tr><td>${escape(stage)}<td>${digits(ms)}</tr>`).join("\n")}
</table></div>
${fullSize.map((step) => `<pre>${escape(fullSizeText(step))}</pre>`).join("\n")}
${compilation ? `<h2>Compiling</h2>\n<pre>${escape(compilationText(compilation))}</pre>` : ""}
</html>
`;
}

/** Ticks of a logarithmic axis: powers of ten from the one below `low` to the one above `high`. */
export function decades(low: number, high: number): number[] {
  const first = Math.floor(Math.log10(low)), last = Math.ceil(Math.log10(high));
  return Array.from({ length: last - first + 1 }, (_, i) => 10 ** (first + i));
}

function rooflineSvg(
  { device: { ceiling }, kernels }: BenchReport,
  colorOf: (kernel: KernelRecord) => string,
): string {
  const points = kernels.filter(({ gflops, gbps }) => gflops > 0 && gbps > 0);
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

function kernelRow(
  { kernel, shape, perStep, ms, gflops, gbps, share, peers = {} }: KernelRecord,
  names: readonly string[],
): string {
  const others = names.map((name) => {
    const peer = peers[name];
    return `<td>${peer ? `${digits(peer.ms)} ms (×${digits(peer.ms / ms)})` : "–"}`;
  });
  return `<tr><td>${escape(kernel)}<td class="text">${escape(shape)}<td>${perStep ?? ""}<td>${digits(ms)}<td>${
    digits(gflops)
  }<td>${digits(gbps)}<td>${percent(share)}<td><meter value="${Math.min(1, share).toFixed(3)}"></meter>${
    others.join("")
  }</tr>`;
}

function targetTable(targets: readonly TargetRecord[]): string {
  if (targets.length === 0) return "";
  const rows = targets.map(({ target, demanded, measured, verdict }) =>
    `<tr><td>${escape(target)}<td class="text">${escape(demanded)}<td class="text">${
      escape(measured)
    }<td class="text">${verdict}</tr>`
  );
  return `<h2>Targets</h2>
<div class="table"><table>
<tr><th>target<th class="text">required<th class="text">measured<th class="text">verdict</tr>
${rows.join("\n")}
</table></div>`;
}

/** The family of a kernel: "conv2d 3×3" belongs to "conv2d". */
function familyOf({ kernel }: KernelRecord): string {
  return kernel.split(" ")[0];
}

function escape(text: string): string {
  return text.replace(
    /[&<>"]/g,
    (character) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" })[character]!,
  );
}
