/**
 * Reads the records of bench runs and refuses what is none, naming the place that does not fit.
 *
 * @module
 */
import * as v from "valibot";
import {
  anyText,
  boolean,
  fields,
  finite,
  fromZero,
  listOf,
  oneOf,
  type Schema,
  text,
  validateJson,
  whole,
} from "../../pipeline/schema.ts";
import type { Ceiling } from "../measure/ceiling.ts";
import type { PeerTask } from "../cases/task.ts";
import type {
  BenchReport,
  CompilationRecord,
  DeviceRecord,
  FullSizeRecord,
  KernelRecord,
  StageRecord,
  TargetRecord,
} from "./report.ts";

/** A file that should hold the record of a bench run does not. */
export class BenchRecordError extends Error {
  override name = "BenchRecordError";
  /** The file. */
  readonly path: string;

  constructor(message: string, { path }: { path: string }) {
    super(message);
    this.path = path;
  }
}

const most = 10_000;
const size = () => whole(1, 2 ** 31);
/** A field that may be absent. */
export const optional = <T>(schema: Schema<T>) => v.optional(schema);
const named = <T>(schema: Schema<T>): Schema<Record<string, T>> => v.record(v.string(), schema, "an object");

const ceiling: Schema<Ceiling> = fields({
  gflops: fromZero(),
  gflopsF64: optional(fromZero()),
  gbps: fromZero(),
  bufferGbps: fromZero(),
  dispatchMs: optional(fromZero()),
});

const device: Schema<DeviceRecord> = fields({
  name: text(),
  deviceClass: text(),
  isFallbackAdapter: boolean(),
  subgroupSize: whole(0, 1024),
  features: listOf(text(), { max: most }),
  runtime: anyText(),
  system: anyText(),
  date: anyText(),
  times: optional(oneOf("processor time")),
  runs: optional(oneOf("replayed")),
  ceiling,
});

const task: Schema<PeerTask> = v.variant("op", [
  fields({ op: v.literal("matmul"), m: size(), k: size(), n: size(), transposeB: boolean() }),
  fields({
    op: v.literal("conv2d"),
    batch: size(),
    inChannels: size(),
    outChannels: size(),
    side: size(),
    kernel: size(),
    stride: size(),
  }),
  fields({ op: v.literal("attention"), batch: size(), heads: size(), t: size(), s: size(), dim: size() }),
], "a matmul, conv2d or attention");

const kernel: Schema<KernelRecord> = fields({
  kernel: text(),
  shape: text(),
  ms: fromZero(),
  gflops: fromZero(),
  gbps: fromZero(),
  share: fromZero(),
  dispatchShare: optional(fromZero()),
  task: optional(task),
  perStep: optional(fromZero()),
  peers: optional(named(fields({ ms: fromZero() }))),
  unable: optional(named(anyText())),
});

const stage: Schema<StageRecord> = fields({ stage: text(), ms: fromZero(), bytes: optional(fromZero()) });

const compilation: Schema<CompilationRecord> = fields({
  device: anyText(),
  model: anyText(),
  pipelines: whole(0, most),
  createMs: finite(),
  firstRunMs: finite(),
  aheadMs: optional(finite()),
  variants: listOf(
    fields({
      part: anyText(),
      kernel: anyText(),
      variant: anyText(),
      parameters: whole(0, most),
      createMs: finite(),
      firstRunMs: finite(), // a difference of two times, so it can be below 0
    }),
    { max: most },
  ),
});

const fullSize: Schema<FullSizeRecord> = fields({
  model: optional(oneOf("SDXL")),
  pixels: size(),
  activations: optional(oneOf("f16")),
  ms: fromZero(),
  batches: whole(1, most),
  loadMs: fromZero(),
  weightsBytes: fromZero(),
  peakBytes: fromZero(),
  peakReservedBytes: fromZero(),
  peers: optional(named(fields({ ms: fromZero(), difference: optional(finite()) }))),
});

const target: Schema<TargetRecord> = fields({
  target: text(),
  demanded: anyText(),
  measured: anyText(),
  verdict: oneOf("met", "missed", "not measured"),
});

const report: Schema<BenchReport> = fields({
  device,
  kernels: listOf(kernel, { max: most }),
  stages: listOf(stage, { max: most }),
  compilation: optional(compilation),
  fullSize: optional(listOf(fullSize, { max: most })),
  targets: optional(listOf(target, { max: most })),
});

/**
 * Parses a record, as `deno task bench --json FILE` writes it.
 *
 * @param path names the file in the message
 * @throws {BenchRecordError} when the text is no record
 */
export function parseReport(json: string, path: string): BenchReport {
  return validateJson(
    report,
    json,
    (reason) =>
      new BenchRecordError(
        `Cannot read ${JSON.stringify(path)} as a bench record as ${reason}: ` +
          "give a file that bluerose bench --json FILE wrote",
        { path },
      ),
  );
}
