import type { CheckResult } from "./check.ts";
import type { DeviceFacts } from "./device_facts.ts";
import type { PictureResult } from "./picture.ts";
import type { SpeedResult } from "./speed.ts";
import type { Strategy } from "./strategies.ts";

/** Something found, and what to do about it. */
export interface Finding {
  readonly what: string;
  readonly advice: string;
}

/** The judgment of a device. */
export interface Verdict {
  /** "good", "slow" for a device that computes on the CPU, or "faulty". */
  readonly level: "good" | "slow" | "faulty";
  readonly text: string;
}

/** What an examination found, and what it means. */
export interface DoctorReport {
  readonly program: string;
  /** Absent where no device could be opened. */
  readonly device?: DeviceFacts;
  readonly isSoftware?: boolean;
  readonly isTuned?: boolean;
  readonly strategies: readonly Strategy[];
  readonly checks: readonly CheckResult[];
  /** The kernels that failed checks point at. */
  readonly suspects: readonly string[];
  readonly picture?: PictureResult;
  readonly speed?: SpeedResult;
  /** The time to stay within; absent where no device could be opened. */
  readonly budgetSeconds?: number;
  /** What did not fit the budget, such as "12 checks". */
  readonly leftOut: readonly string[];
  /** What is wrong, each with what to do. */
  readonly problems: readonly Finding[];
  /** What is worth knowing, each with what to do. */
  readonly remarks: readonly Finding[];
  readonly verdict: Verdict;
  readonly seconds: number;
}

/** What was learned before an examination ended; it may have ended early. */
export type Examination =
  & Partial<Pick<DoctorReport, "device" | "isSoftware" | "isTuned" | "picture" | "speed" | "budgetSeconds">>
  & Pick<DoctorReport, "leftOut">
  & {
    readonly strategies: readonly Strategy[];
    readonly checks: readonly CheckResult[];
    readonly suspects: readonly string[];
    /** Errors that ended a part: the opening of a device, its loss, a failed measurement. */
    readonly errors: readonly { readonly part: string; readonly error: unknown }[];
  };
