/**
 * Renders a bench run as one self-contained HTML page: targets, a roofline plot, the table of
 * kernels, and the stages; beside another run where one is given.
 *
 * @module
 */
import { type Change, compareReports } from "./comparison.ts";
import { type ModeledGpus, modelSection } from "./gpu_model.ts";
import { type Column, escape, type Markup, pageStyle, table } from "./html.ts";
import { type BenchReport, type DeviceRecord, type KernelRecord, netShare, summarizePeers } from "./report.ts";
import { rooflineSvg } from "./roofline.ts";
import {
  compilationText,
  digits,
  dispatchText,
  familyOf,
  fullSizeText,
  netNote,
  netText,
  peerText,
  percent,
  ratio,
  timesText,
} from "./text.ts";

/** One color per kernel family; remaining families share the last. */
const colors = ["#3b6fd4", "#d4573b", "#2f9e5b", "#8a4fc7", "#c79a1e", "#1f9fae", "#c2437f", "#7a7a7a"];

/** Changes within this share are not colored: two runs of the same code differ by as much. */
const noise = 0.05;

/** Options of {@linkcode benchPage}. */
export interface PageOptions {
  /** A run to compare with, and its name on the page. Default: none. */
  readonly compared?: { readonly report: BenchReport; readonly name: string };
  /** What the GPU model says of the kernels. Default: not shown. */
  readonly model?: ModeledGpus;
}

/** The HTML page of a run. */
export function benchPage(report: BenchReport, { compared, model }: PageOptions = {}): string {
  const { device, kernels, fullSize = [], compilation } = report;
  const changes = compared ? compareReports(compared.report, report) : undefined;
  const other = compared ? new OtherRun(compared.name, changes!.changes) : undefined;
  return `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Blue Rose bench: ${escape(device.name)}</title>
<style>${pageStyle}</style>
<h1>${escape(device.name)}</h1>
${deviceText(device)}
${compared ? `<h2>Compared with ${escape(compared.name)}</h2>\n${comparedText(compared.report, device)}` : ""}
${targetTable(report, compared)}
${kernels.length > 0 ? rooflineSection(report) : ""}
<h2>Kernels</h2>
${kernels.length > 0 ? kernelTable(kernels, other) : "<p>No kernels were measured.</p>"}
${summarizePeers(kernels).map((summary) => `<p>${escape(peerText(summary))}</p>`).join("\n")}
${model ? modelSection(model) : ""}
<h2>Stages</h2>
${stageTable(report, other)}
${fullSize.map((step) => `<pre>${escape(fullSizeText(step))}</pre>`).join("\n")}
${compilation ? `<h2>Compiling</h2>\n<pre>${escape(compilationText(compilation))}</pre>` : ""}
${changes ? onlyText("this run", changes.added) + onlyText(compared!.name, changes.missing) : ""}
</html>
`;
}

/** The times of the other run, by the names of entries. */
class OtherRun {
  readonly columns: readonly Column[];
  readonly #changes: ReadonlyMap<string, Change>;

  constructor(name: string, changes: readonly Change[]) {
    this.columns = [{ title: `ms in ${name}` }, { title: "new / old" }];
    this.#changes = new Map(changes.map((change) => [change.name, change]));
  }

  /** The cells of an entry; empty where the other run lacks it. */
  cells(name: string): (string | Markup)[] {
    const change = this.#changes.get(name);
    if (!change) return ["", ""];
    const kind = change.ratio > 1 + noise ? "slower" : change.ratio < 1 / (1 + noise) ? "faster" : "";
    return [digits(change.beforeMs), { html: `<span class="${kind}">${ratio(change.ratio)}</span>` }];
  }
}

function deviceText(device: DeviceRecord): string {
  const { system, runtime, subgroupSize, date, ceiling } = device;
  const facts = [
    system,
    runtime,
    `subgroups of ${subgroupSize}`,
    date.slice(0, 16).replace("T", " ") + " UTC",
    timesText(device),
  ];
  const f64 = ceiling.gflopsF64 === undefined ? "" : ` (f64: ${digits(ceiling.gflopsF64)})`;
  return `<p>${facts.map(escape).join(" · ")}<br>
Peak rates of the device, measured in the same run: <b>${digits(ceiling.gflops)} GFLOPS</b>${f64}, <b>${
    digits(ceiling.gbps)
  } GB/s</b> by a kernel that copies (${digits(ceiling.bufferGbps)} GB/s by buffer copies).${
    ceiling.dispatchMs === undefined ? "" : `<br>\n${escape(sentence(dispatchText(ceiling)))}`
  }</p>`;
}

const sentence = (text: string) => `${text[0].toUpperCase()}${text.slice(1)}.`;

function comparedText({ device }: BenchReport, measured: DeviceRecord): string {
  const warnings = [
    ...(device.name === measured.name ? [] : [`<p><b>${escape(device.name)}</b>: another device.</p>\n`]),
    ...(timesText(device) === timesText(measured) ? [] : [`<p><b>${escape(sentence(timesText(device)))}</b></p>\n`]),
  ];
  return warnings.join("") + deviceText(device);
}

function targetTable({ targets = [] }: BenchReport, compared: PageOptions["compared"]): string {
  if (targets.length === 0) return "";
  const before = new Map(compared?.report.targets?.map(({ target, measured }) => [target, measured]));
  const columns = [
    ...["target", "required", "measured"].map((title) => ({ title, isText: true })),
    ...(compared ? [{ title: `in ${compared.name}`, isText: true }] : []),
    { title: "verdict", isText: true },
  ];
  const rows = targets.map(({ target, demanded, measured, verdict }) => [
    target,
    demanded,
    measured,
    ...(compared ? [before.get(target) ?? ""] : []),
    { html: `<span class="${verdict.replace(" ", "-")}">${verdict}</span>` },
  ]);
  return `<h2>Targets</h2>\n${table(columns, rows)}`;
}

/** The roofline with its legend. */
function rooflineSection(report: BenchReport): string {
  const families = [...new Set(report.kernels.map(({ kernel }) => familyOf(kernel)))];
  const color = (family: string) => colors[Math.min(families.indexOf(family), colors.length - 1)];
  const legend = families.map((family) =>
    `<li><span style="background:${color(family)}"></span>${escape(family)}</li>`
  );
  return `<h2>Roofline</h2>
${rooflineSvg(report, ({ kernel }) => color(familyOf(kernel)))}
<ul class="legend">${legend.join("")}</ul>`;
}

function kernelTable(kernels: readonly KernelRecord[], other: OtherRun | undefined): string {
  const peers = [...new Set(kernels.flatMap(({ peers = {} }) => Object.keys(peers)))];
  const hasNet = kernels.some((record) => netShare(record) !== undefined);
  const columns: Column[] = [
    { title: "kernel", isText: true },
    { title: "shape", isText: true },
    ...["per step", "ms"].map((title) => ({ title })),
    ...(other?.columns ?? []),
    ...["GFLOPS", "GB/s", "of the ceiling", ...(hasNet ? ["net"] : [])].map((title) => ({ title })),
    ...peers.map((title) => ({ title })),
  ];
  const rows = kernels.map((record) => {
    const { kernel, shape, perStep, ms, gflops, gbps, share } = record;
    return [
      kernel,
      shape,
      perStep === undefined ? "" : `${perStep}`,
      digits(ms),
      ...(other?.cells(`${kernel} ${shape}`) ?? []),
      digits(gflops),
      digits(gbps),
      { html: `<meter value="${Math.min(1, share).toFixed(3)}"></meter> ${percent(share)}` },
      ...(hasNet ? [netText(record)] : []),
      ...peers.map((name) => peerCell(record, name)),
    ];
  });
  return table(columns, rows) + (hasNet ? `\n<p class="note">${escape(netNote)}</p>` : "");
}

function peerCell({ ms, peers = {} }: KernelRecord, name: string): string | Markup {
  const peer = peers[name];
  return peer ? { html: `${digits(peer.ms)} <span class="note">${ratio(peer.ms / ms)}</span>` } : "";
}

function stageTable({ stages }: BenchReport, other: OtherRun | undefined): string {
  if (stages.length === 0) return "<p>No stages were measured.</p>";
  const columns = [{ title: "stage", isText: true }, { title: "ms" }, ...(other?.columns ?? []), { title: "MiB" }];
  const rows = stages.map(({ stage, ms, bytes }) => [
    stage,
    digits(ms),
    ...(other?.cells(stage) ?? []),
    bytes === undefined ? "" : digits(bytes / 2 ** 20),
  ]);
  return `${table(columns, rows)}
<p class="note">MiB: at most in tensors, besides the weights.</p>`;
}

function onlyText(run: string, names: readonly string[]): string {
  return names.length === 0 ? "" : `<p>Only in ${escape(run)}: ${escape(names.join("; "))}</p>\n`;
}
