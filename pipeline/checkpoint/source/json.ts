/**
 * Parses JSON as Python writes it, with `Infinity`, `-Infinity` and `NaN`, which standard JSON
 * lacks. diffusers saves infinite bounds of schedulers this way. `NaN` reads as null.
 *
 * @throws {SyntaxError} for anything else that is not JSON.
 */
export function parsePythonJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    if (!/Infinity|NaN/.test(text)) throw error;
  }
  const words: Record<string, string> = { Infinity: "1e999", "-Infinity": "-1e999", NaN: "null" };
  // Strings are matched first, so that a word inside one stays as it is.
  return JSON.parse(text.replace(/"(?:[^"\\]|\\.)*"|-?Infinity|NaN/g, (token) => words[token] ?? token));
}
