/**
 * What an examination means, in words, and what to do about it.
 *
 * @module
 */
import { countText } from "../../engine/inspect.ts";
import { DeviceLostError, NoAdapterError } from "../../engine/errors.ts";
import { TuningError } from "../../kernels/tuning.ts";
import { digits, percent } from "../report/text.ts";
import type { Examination, Finding, Verdict } from "./report.ts";

const reportIt = "report it with the output of `bluerose doctor --json`, which holds no personal paths";

/** Judges an examination. */
export function judge(found: Examination): { problems: Finding[]; remarks: Finding[]; verdict: Verdict } {
  const problems = [...errorFindings(found), ...checkFindings(found)];
  const remarks = problems.length > 0 || found.device === undefined ? [] : remarksOn(found);
  return { problems, remarks, verdict: verdictOf(found, problems) };
}

function errorFindings({ errors, isTuned = false }: Examination): Finding[] {
  return errors.map(({ part, error }): Finding => {
    const what = error instanceof Error ? error.message : `${error}`;
    if (error instanceof NoAdapterError) return { what: "no GPU can be opened", advice: what };
    if (error instanceof TuningError) {
      // A tuner keeps other devices' entries, so it does not replace a file that it cannot read.
      const isUnreadable = error.cause !== undefined;
      const remove = `remove the saved tuning${isUnreadable ? "" : ", or replace it"}`;
      return { what, advice: `${remove}: bluerose bench --tune measures the device's tiles anew` };
    }
    if (error instanceof DeviceLostError) {
      return {
        what: `the device was lost during ${partText[part] ?? part}: ${what}`,
        advice: `close other programs that use the GPU, update its driver and run bluerose doctor again${
          isTuned ? "; the saved tuning may be too large for it: remove it" : ""
        }. If that does not help, ${reportIt}`,
      };
    }
    return { what: `${partText[part] ?? part} failed: ${what}`, advice: reportIt };
  });
}

const partText: Readonly<Record<string, string>> = {
  open: "opening the device",
  checks: "the checks of kernels",
  picture: "the picture",
  speed: "the measurement of speed",
};

function checkFindings({ checks, suspects, picture, isTuned, isSoftware }: Examination): Finding[] {
  const failed = checks.filter(({ failure }) => failure !== undefined);
  const findings: Finding[] = [];
  if (failed.length > 0) {
    const [first] = failed;
    const which = suspects.length > 0 ? `, which point at ${kernelsText(suspects)}` : "";
    findings.push({
      what:
        `${failed.length} of ${checks.length} checks failed${which}. The first: ${first.operation} ${first.shape}: ` +
        first.failure!.split("\n")[0],
      advice:
        `${isSoftware ? "update Mesa" : "update the graphics driver"}${
          isTuned ? ", and remove the saved tuning" : ""
        }, then run bluerose doctor again. If it still fails, ${reportIt}. Do not trust pictures or edits of this ` +
        "device until then",
    });
  }
  if (picture?.failure !== undefined) {
    const isDrawn = picture.difference !== undefined;
    const where = isDrawn ? "in the combination of kernels" : "in the model's files or in drawing";
    const restore = isDrawn ? "" : "restore the repository's folder models/pocket if the message names it. If not, ";
    findings.push({
      what: `the picture of "${picture.prompt}" ${isDrawn ? "" : "could not be drawn: "}${picture.failure}`,
      advice: failed.length > 0
        ? "see above: the failed checks are the likely cause"
        : `every kernel passed its checks, so the fault lies ${where}: ${restore}${reportIt}`,
    });
  }
  return findings;
}

const kernelsText = (names: readonly string[]) =>
  names.length === 1 ? `the kernel ${names[0]}` : `the kernels ${names.slice(0, -1).join(", ")} and ${names.at(-1)}`;

/** Below this share of the ceiling, a tuning is worth its time. */
const lowShare = 0.25;

function remarksOn({ isSoftware, isTuned, speed, picture, leftOut, budgetSeconds }: Examination): Finding[] {
  const remarks: Finding[] = [];
  if (leftOut.length > 0) {
    remarks.push({
      what: `${leftOut.join(", ")} left out: no time within the budget of ${budgetSeconds} s`,
      advice: `run bluerose doctor --budget ${10 * budgetSeconds!} to examine all of it`,
    });
  }
  if (isSoftware) {
    remarks.push({
      what: "this device computes on the CPU",
      advice:
        "if the machine has a GPU, install its vendor's Vulkan driver; a picture takes a small fraction of the time there",
    });
  }
  if (!isTuned) {
    remarks.push({
      what: "the device runs with the defaults of its family",
      advice: "bluerose bench --tune finds its fastest tiles, once, for all commands",
    });
  }
  const weak = speed?.kernels.filter(({ share }) => share < lowShare) ?? [];
  if (weak.length > 0) {
    remarks.push({
      what: `${weak.map(({ kernel, share }) => `${kernel} reaches ${percent(share)}`).join(", ")} of the ceiling`,
      advice: isTuned
        ? "other programs may be using the device: measure again on an idle machine"
        : "measure again on an idle machine, and tune the device",
    });
  }
  if (!picture && !leftOut.includes("the picture")) {
    remarks.push({
      what: "no picture was drawn",
      advice: "run the command from the repository, which holds the model",
    });
  }
  return remarks;
}

function verdictOf(found: Examination, problems: readonly Finding[]): Verdict {
  const { device, checks, picture, speed, isSoftware, leftOut } = found;
  if (device === undefined) return { level: "faulty", text: "Blue Rose cannot run here: it found no device." };
  if (problems.length > 0) {
    const isUndrawn = picture?.failure !== undefined && picture.difference === undefined;
    const wrong = checks.some(({ failure }) => failure !== undefined) || picture?.failure !== undefined && !isUndrawn;
    const see = `see the ${problems.length === 1 ? "problem" : "problems"} above`;
    return {
      level: "faulty",
      text: wrong
        ? `${device.name} does not compute correctly.`
        : isUndrawn
        ? `${device.name} passed the checks of its kernels, but a picture could not be drawn: ${see}.`
        : `${device.name} could not be used as it is set up: ${see}.`,
    };
  }
  const ran = checks.filter(({ skipped }) => skipped === undefined);
  const kernels = new Set(ran.flatMap((check) => check.kernels)).size;
  const agreed = ran.length === 1 && !picture ? "agrees with its reference" : "agree with their references";
  const agree = `${device.name} computes correctly: ${countText(ran.length, "check")} of ${
    countText(kernels, "kernel")
  }${picture ? " and a picture" : ""} ${agreed}${leftOut.length > 0 ? ", as far as the budget allowed" : ""}.`;
  const pace = speed ? ` It multiplies and adds at up to ${digits(speed.ceiling.gflops)} GFLOPS.` : "";
  return isSoftware
    ? { level: "slow", text: `${agree}${pace} It is a software device: right for tests and small models.` }
    : { level: "good", text: agree + pace };
}
