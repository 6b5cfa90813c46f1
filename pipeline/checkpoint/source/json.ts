/** The deepest nesting that is read: what walks a value may recurse. */
const maxDepth = 128;

/**
 * Parses JSON as Python writes it, with `Infinity`, `-Infinity` and `NaN`, which standard JSON
 * lacks. diffusers saves infinite bounds of schedulers this way. `NaN` reads as null.
 *
 * @throws {SyntaxError} for anything else that is not JSON, or nests deeper than 128 levels.
 */
export function parsePythonJson(text: string): unknown {
  const value = parse(text);
  checkDepth(value);
  return value;
}

function checkDepth(value: unknown): void {
  for (let level = [value], depth = 0; level.length > 0; depth++) {
    if (depth > maxDepth) throw new SyntaxError(`it nests deeper than ${maxDepth} levels`);
    const next: unknown[] = [];
    for (const one of level) if (typeof one === "object" && one !== null) next.push(Object.values(one));
    level = next.flat();
  }
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    if (!/Infinity|NaN/.test(text)) throw error;
  }
  const words: Record<string, string> = { Infinity: "1e999", "-Infinity": "-1e999", NaN: "null" };
  // Strings are matched first, so that a word inside one stays as it is.
  return JSON.parse(text.replace(/"(?:[^"\\]|\\.)*"|-?Infinity|NaN/g, (token) => words[token] ?? token));
}
