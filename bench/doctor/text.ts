/**
 * A doctor's report as text.
 *
 * @module
 */
import { countText } from "../../engine/inspect.ts";
import { ceilingText, digits, familyOf, percent } from "../report/text.ts";
import type { CheckResult } from "./check.ts";
import type { DoctorReport } from "./report.ts";

/** A part of the report: a title and labeled lines. */
export interface Section {
  readonly title: string;
  readonly rows: readonly (readonly [label: string, text: string])[];
}

/** The sections of a report, in order. The verdict is not part of them. */
export function sectionsOf(report: DoctorReport): Section[] {
  const { strategies, problems, remarks } = report;
  const sections: Section[] = [
    deviceSection(report),
    {
      title: "Strategies",
      rows: strategies.map(({ part, choice, reason }) => [part, `${choice} (${reason})`] as const),
    },
    checkSection(report),
    speedSection(report),
    { title: "Problems", rows: problems.map(({ what, advice }, i) => [`${i + 1}`, `${what}\nWhat to do: ${advice}.`]) },
    { title: "Remarks", rows: remarks.map(({ what, advice }, i) => [`${i + 1}`, `${what}: ${advice}.`] as const) },
  ];
  return sections.filter(({ rows }) => rows.length > 0);
}

function deviceSection({ program, device }: DoctorReport): Section {
  if (device === undefined) return { title: "Device", rows: [["program", program], ["adapter", "none"]] };
  const { name, isFallbackAdapter, drivers, features, missing, limits, subgroupSize } = device;
  const mebibytes = (bytes: number) => `${digits(bytes / 2 ** 20)} MiB`;
  return {
    title: "Device",
    rows: [
      ["program", program],
      ["adapter", `${name}${isFallbackAdapter ? " (a fallback adapter)" : ""}`],
      ...(drivers.length > 0 ? [["drivers", drivers.join(", ")] as const] : []),
      ["features", features.join(", ") || "none"],
      ...Object.entries(missing).map(([feature, consequence]) => ["missing", `${feature}: ${consequence}`] as const),
      ["subgroups", subgroupSize > 0 ? `of ${subgroupSize} invocations` : "none of one known size"],
      [
        "buffers",
        `at most ${mebibytes(limits.maxBufferSize)}, bindings ${mebibytes(limits.maxStorageBufferBindingSize)}`,
      ],
      [
        "workgroups",
        `at most ${limits.maxComputeInvocationsPerWorkgroup} invocations, ${
          digits(limits.maxComputeWorkgroupStorageSize / 1024)
        } KiB of workgroup memory`,
      ],
    ],
  };
}

function checkSection({ checks, picture, suspects, leftOut }: DoctorReport): Section {
  if (checks.length === 0) return { title: "Correctness", rows: [] };
  const families = Map.groupBy(checks, ({ operation }) => familyOf(operation));
  return {
    title: "Correctness, against float64 definitions",
    rows: [
      ...[...families].map(([family, results]) => [family, familyText(results)] as const),
      ...(suspects.length > 0 ? [["suspects", suspects.join(", ")] as const] : []),
      ...(picture ? [["picture", pictureText(picture)] as const] : []),
      ...(leftOut.length > 0 ? [["left out", leftOut.join(", ")] as const] : []),
    ],
  };
}

function familyText(results: readonly CheckResult[]): string {
  const failed = results.filter(({ failure }) => failure !== undefined);
  if (failed.length > 0) {
    return failed.map(({ operation, shape, failure }) => `✗ ${operation} ${shape}: ${failure!.split("\n")[0]}`).join(
      "\n",
    );
  }
  const ran = results.filter(({ skipped }) => skipped === undefined);
  if (ran.length === 0) return `not run: ${results[0].skipped}`;
  const worst = ran.reduce((a, b) => share(b) > share(a) ? b : a);
  const error = worst.error === 0
    ? "exact"
    : `error at most ${worst.error!.toExponential(1)} of ${worst.tolerance.toExponential(1)} allowed`;
  return `✓ ${countText(ran.length, "check")}, ${error}`;
}

const share = ({ error = 0, tolerance }: CheckResult) => tolerance === 0 ? 0 : error / tolerance;

function pictureText({ prompt, difference, failure, ms }: NonNullable<DoctorReport["picture"]>): string {
  if (failure !== undefined) return `✗ "${prompt}": ${failure.split("\n")[0]}`;
  return `✓ "${prompt}" equals the reference's to ${digits(difference!)} of 256 levels; ${
    digits(ms / 1000)
  } s with loading and compiling`;
}

function speedSection({ speed }: DoctorReport): Section {
  if (!speed) return { title: "Speed", rows: [] };
  return {
    title: "Speed",
    rows: [
      ["limits", ceilingText(speed.ceiling).replace(/^ceiling: /, "")],
      ...speed.kernels.map(({ kernel, shape, ms, gflops, share }) =>
        [kernel, `${shape}: ${digits(ms)} ms, ${digits(gflops)} GFLOPS, ${percent(share)} of the ceiling`] as const
      ),
    ],
  };
}
