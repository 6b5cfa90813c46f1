/**
 * Numbers by patterns of module names, as PEFT's `rank_pattern` and `alpha_pattern` hold them: a
 * name, or a regular expression, that fits the end of a module's path from a dot or its beginning.
 *
 * The expressions come from strangers, and a backtracking matcher can take forever over short ones
 * such as `(a+)+b`. So they are bounded before they are compiled.
 *
 * @module
 */

import { shown } from "../shown.ts";

/** The most patterns: several for each layer of the largest model. */
const mostPatterns = 4096;
/** The most patterns that are more than a name. */
const mostExpressions = 16;
/** The longest pattern. */
const longestPattern = 500;
/** The most repetitions, and the most alternatives, of one expression. */
const mostRepetitions = 2, mostAlternatives = 4;

/**
 * Returns the lookup of a path's number: that of the first pattern that fits.
 *
 * @param refuse makes the error of a reason such as `holds "(", which is not a regular expression`
 */
export function modulePatterns(
  numbers: Readonly<Record<string, number>>,
  refuse: (reason: string) => Error,
): (path: string) => number | undefined {
  const entries = Object.entries(numbers);
  if (entries.length > mostPatterns) throw refuse(`holds ${entries.length} patterns; at most ${mostPatterns} are read`);
  const names = new Map<string, { place: number; number: number }>();
  const expressions: { place: number; number: number; expression: RegExp }[] = [];
  for (const [place, [pattern, number]] of entries.entries()) {
    if (/^[\w.-]*$/.test(pattern)) names.set(pattern, { place, number });
    else expressions.push({ place, number, expression: compiled(pattern, refuse) });
  }
  if (expressions.length > mostExpressions) {
    throw refuse(`holds ${expressions.length} regular expressions; at most ${mostExpressions} are read`);
  }
  return (path) => {
    const ends = [...path.matchAll(/(?<=^|\.)/g)].map(({ index }) => path.slice(index));
    const found = [
      ...ends.flatMap((end) => names.get(end) ?? []),
      ...expressions.filter(({ expression }) => expression.test(path)),
    ];
    return found.sort((a, b) => a.place - b.place)[0]?.number;
  };
}

function compiled(pattern: string, refuse: (reason: string) => Error): RegExp {
  const plain = pattern.replace(/\\[.dwWDsS\\]/g, "_").replace(/\[[^\]\\]*\]/g, "_");
  const isRepeatedGroup = /\)[*+?{]/.test(plain), isSpecial = /\\|\(\?(?!:)/.test(plain);
  const repetitions = plain.replaceAll("(?:", "(").match(/[*+?{]/g)?.length ?? 0;
  const alternatives = plain.match(/\|/g)?.length ?? 0;
  if (
    pattern.length > longestPattern || isRepeatedGroup || isSpecial || repetitions > mostRepetitions ||
    alternatives > mostAlternatives
  ) {
    throw refuse(
      `holds ${shown(pattern)}, which is too complex: names, and expressions with at most ${mostRepetitions} ` +
        `repetitions of one character and ${mostAlternatives} alternatives are read`,
    );
  }
  try {
    const expression = new RegExp(`^(?:.*\\.)?(?:${pattern})$`);
    expression.test(""); // an expression that is too large fails at its first use
    return expression;
  } catch {
    throw refuse(`holds ${shown(pattern)}, which is not a regular expression`);
  }
}
