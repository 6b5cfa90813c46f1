import type { BenchReport } from "./report.ts";
import { targetsText } from "./targets.ts";
import {
  compilationText,
  deviceText,
  fullSizeText,
  kernelHead,
  kernelLine,
  netNote,
  peerText,
  stageLine,
} from "./text.ts";
import { netShare, summarizePeers } from "./report.ts";

/** A whole record as text, in the order in which a run prints it. */
export function reportText(report: BenchReport): string {
  const { device, kernels, stages, compilation, fullSize = [], targets = [] } = report;
  const parts = [
    `${device.date.slice(0, 10)}, ${deviceText(device)}`,
    stages.map(stageLine).join("\n"),
    kernels.length > 0 ? [kernelHead(), ...kernels.map((kernel) => kernelLine(kernel))].join("\n") : "",
    kernels.some((kernel) => netShare(kernel) !== undefined) ? netNote : "",
    summarizePeers(kernels).map(peerText).join("\n"),
    compilation ? compilationText(compilation) : "",
    fullSize.map(fullSizeText).join("\n"),
    targets.length > 0 ? `Targets\n${targetsText(targets)}` : "",
  ];
  return parts.filter((part) => part !== "").join("\n\n");
}
