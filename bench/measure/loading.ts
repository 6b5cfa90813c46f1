/**
 * Measures the host memory that loading takes: loads a checkpoint and prints the time, and the
 * growth of the process beyond the bytes on the device.
 *
 *     deno run -P=bench bench/measure/loading.ts DIRECTORY|FILE.safetensors \
 *       [--tokenizer DIRECTORY] [--json FILE]
 *
 * A software device keeps its buffers in host memory, so the bytes that were written to the device
 * are subtracted.
 *
 * @module
 */
import { parseArgs } from "@std/cli/parse-args";
import { Gpu } from "../../engine/gpu.ts";
import { policyOf } from "../../kernels/policy.ts";
import { writeJson } from "../../pipeline/output/file.ts";
import { openPipeline } from "../../pipeline/open_pipeline.ts";

const args = parseArgs(Deno.args, { string: ["tokenizer", "json"] });
const [source] = args._.map(String);
if (source === undefined) {
  console.error("Usage: loading.ts DIRECTORY|FILE.safetensors [--tokenizer DIRECTORY] [--json FILE]");
  Deno.exit(1);
}

using gpu = await Gpu.request();
const onHost = policyOf(gpu).isSoftware;
const start = Deno.memoryUsage();
let process = 0, heap = 0, loadedBytes = 0;
const doneOf = new Map<string, number>();
const measure = () => {
  const { rss, external, heapUsed } = Deno.memoryUsage();
  process = Math.max(process, rss - start.rss - (onHost ? loadedBytes : 0));
  heap = Math.max(heap, external + heapUsed - start.external - start.heapUsed);
};
const onProgress = (component: string, doneBytes: number) => {
  doneOf.set(component, doneBytes);
  loadedBytes = [...doneOf.values()].reduce((sum, bytes) => sum + bytes, 0);
  measure();
};
const watch = setInterval(measure, 10);
const started = performance.now();
using _pipe = await openPipeline(source, { gpu, tokenizer: args.tokenizer, onProgress });
const seconds = (performance.now() - started) / 1000;
clearInterval(watch);
measure();

const mib = (bytes: number) => Math.round(bytes / 2 ** 20);
const report = {
  source,
  device: gpu.info.name,
  seconds: Number(seconds.toFixed(1)),
  weightsMiB: mib(loadedBytes),
  deviceMiB: mib(gpu.memory.live),
  devicePeakMiB: mib(gpu.memory.peak),
  hostPeakMiB: mib(process),
  jsPeakMiB: mib(heap),
};
console.log(JSON.stringify(report, null, 2));
if (args.json !== undefined) await writeJson(args.json, report);
