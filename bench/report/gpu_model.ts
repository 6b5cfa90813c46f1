/**
 * The part of a record of the static GPU model that the bench's page shows.
 *
 * @module
 */
import { anyText, fields, fromZero, listOf, type Schema, text, validateJson } from "../../pipeline/schema.ts";
import { escape, type Markup, table } from "./html.ts";
import { BenchRecordError, optional } from "./schema.ts";
import { digits, percent } from "./text.ts";

/** What the model says of one kernel of a case. */
export interface ModeledKernel {
  readonly case: string;
  readonly kernel: string;
  /** Vector registers per lane. */
  readonly registers: number;
  /** Vector registers that did not fit. */
  readonly spilled: number;
  /** Waves per SIMD. */
  readonly waves: number;
  /** The busiest unit. */
  readonly bound: string;
  /** Share of the fma peak that the waves that fit allow, 0…1. */
  readonly reach: number;
  /** The same with bank conflicts, barriers and instruction fetch; absent in older records. */
  readonly sustained?: number;
}

/** What the model says of the kernels on each GPU. */
export interface ModeledGpus {
  readonly compiler: string;
  readonly gpus: readonly { readonly gpu: string; readonly kernels: readonly ModeledKernel[] }[];
}

const most = 10_000;
const record: Schema<ModeledGpus> = fields({
  compiler: anyText(),
  gpus: listOf(
    fields({
      gpu: text(),
      kernels: listOf(
        fields({
          case: text(),
          kernel: text(),
          registers: fromZero(),
          spilled: fromZero(),
          waves: fromZero(),
          bound: anyText(),
          reach: fromZero(),
          sustained: optional(fromZero()),
        }),
        { max: most },
      ),
    }),
    { max: most },
  ),
});

/**
 * Parses a record, as `deno task bench:gpu-model --json FILE` writes it.
 *
 * @param path names the file in the message
 * @throws {BenchRecordError} when the text is no such record
 */
export function parseGpuModel(json: string, path: string): ModeledGpus {
  return validateJson(
    record,
    json,
    (reason) =>
      new BenchRecordError(
        `Cannot read ${JSON.stringify(path)} as a record of the GPU model as ${reason}: ` +
          "give a file that deno task bench:gpu-model --json FILE wrote",
        { path },
      ),
  );
}

/** The model's section of the page: a row per kernel of a case, a column per GPU. */
export function modelSection({ compiler, gpus }: ModeledGpus): string {
  const nameOf = ({ case: name, kernel }: ModeledKernel) => JSON.stringify([name, kernel]);
  // The first variant of a kernel in a case stands for it.
  const byName = gpus.map(({ kernels }) => new Map(kernels.toReversed().map((kernel) => [nameOf(kernel), kernel])));
  const names = new Set(gpus.flatMap(({ kernels }) => kernels.map(nameOf)));
  const columns = [
    { title: "case", isText: true },
    { title: "kernel", isText: true },
    ...gpus.map(({ gpu }) => ({ title: gpu })),
  ];
  const rows = [...names].map((name) => [...JSON.parse(name), ...byName.map((of) => modelCell(of.get(name)))]);
  return `<h2>GPU model</h2>
<p>Modeled share of the f32 peak, without a GPU: ${escape(compiler)} compiled the kernels, nothing ran. ` +
    `It ranks variants and predicts no times. Below each share: the busiest unit, waves per SIMD and vector registers, ` +
    `and where it differs the share with bank conflicts, barriers and instruction fetch.</p>
${table(columns, rows)}`;
}

function modelCell(kernel: ModeledKernel | undefined): string | Markup {
  if (!kernel) return "";
  const { reach, sustained = reach, bound, waves, registers, spilled } = kernel;
  const lower = percent(sustained) === percent(reach) ? "" : `, ${percent(sustained)} sustained`;
  const spills = spilled > 0 ? ` <span class="slower">${spilled} spilled</span>` : "";
  return {
    html: `${percent(reach)}<br><span class="note">${escape(bound)}, ${
      digits(waves)
    } waves, ${registers} VGPR${lower}</span>${spills}`,
  };
}
