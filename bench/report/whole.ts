import type { BenchReport } from "./report.ts";
import { targetsText } from "./targets.ts";
import { ceilingText, compilationText, fullSizeText, kernelHead, kernelLine, peerText, stageLine } from "./text.ts";
import { summarizePeers } from "./report.ts";

/** A whole record as text, in the order in which a run prints it. */
export function reportText(report: BenchReport): string {
  const { device, kernels, stages, compilation, fullSize = [], targets = [] } = report;
  const parts = [
    `${device.name}, ${device.date.slice(0, 10)}\n${ceilingText(device.ceiling)}`,
    stages.map(stageLine).join("\n"),
    kernels.length > 0 ? [kernelHead(), ...kernels.map((kernel) => kernelLine(kernel))].join("\n") : "",
    summarizePeers(kernels).map(peerText).join("\n"),
    compilation ? compilationText(compilation) : "",
    fullSize.map(fullSizeText).join("\n"),
    targets.length > 0 ? `Targets\n${targetsText(targets)}` : "",
  ];
  return parts.filter((part) => part !== "").join("\n\n");
}
