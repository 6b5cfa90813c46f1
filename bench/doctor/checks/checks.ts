import type { Check } from "../check.ts";
import { attentionChecks } from "./attentions.ts";
import { convolutionChecks } from "./convolutions.ts";
import { elementChecks } from "./elements.ts";
import { f16ArithmeticChecks } from "./f16_arithmetic.ts";
import { normChecks } from "./norms.ts";
import { productChecks } from "./products.ts";
import { solverChecks } from "./solver.ts";

/** All checks: every kernel, at sizes that are no multiple of a tile or a vector. */
export const checks: readonly Check[] = [
  ...productChecks,
  ...convolutionChecks,
  ...attentionChecks,
  ...normChecks,
  ...elementChecks,
  ...solverChecks,
  ...f16ArithmeticChecks,
];
