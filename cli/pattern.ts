import { ArgumentError } from "./argument_error.ts";

/**
 * The regular expression that an argument holds.
 *
 * @param names what it selects from; `what` says what they are
 * @param options.argument how messages name the argument
 * @throws {ArgumentError} for what is no regular expression, or matches none of the names
 */
export function patternOf(
  text: string,
  names: readonly string[],
  { argument, what }: { readonly argument: string; readonly what: string },
): RegExp {
  const refuse = (why: string): never => {
    throw new ArgumentError(`Cannot use ${argument} ${JSON.stringify(text)} as ${why}`, { argument });
  };
  let pattern: RegExp;
  try {
    pattern = new RegExp(text);
  } catch (error) {
    return refuse(`it is not a regular expression: ${(error as Error).message}`);
  }
  if (names.some((name) => pattern.test(name))) return pattern;
  if (names.length === 0) return refuse(`there are no ${what}`);
  return refuse(`none of the ${names.length} ${what} matches, such as ${JSON.stringify(names[0])}`);
}
