import type { GridAxis } from "../pipeline/generation/xy_grid.ts";
import { samplerByName } from "../schedulers/mod.ts";
import { ArgumentError } from "./argument_error.ts";
import { parseNumber, parseSeed } from "./flag_values.ts";
import { type EditMethod, editMethods } from "../pipeline/editing/prompts/method.ts";
import { nearest } from "./nearest.ts";

/** Settings that an axis can run over, by the names that the command line takes. */
const settings: Readonly<Record<string, GridAxis["name"]>> = {
  lambda: "lambda",
  strength: "strength",
  method: "method",
  seed: "seed",
  sampler: "sampler",
  steps: "steps",
  guidance: "guidance",
  "sampling-method": "sampler",
  "cfg-scale": "guidance",
  cfg: "guidance",
};

/** The settings, for the help. */
export const axisNames: readonly string[] = [...new Set(Object.values(settings))];

/** Values of an axis at most. */
const mostValues = 64;

/**
 * Parses an axis: `lambda=0.01,0.1,1`, `seed=1..4`, `sampler=euler,ddim`.
 *
 * @throws {ArgumentError} for an unknown setting, no values, or values that it does not take
 */
export function parseAxis(text: string, flag: string): GridAxis {
  const [, word, list] = /^([^=]*)=(.*)$/s.exec(text) ?? [];
  if (word === undefined) {
    throw new ArgumentError(
      `Cannot use ${flag} ${JSON.stringify(text)}: it takes NAME=VALUES, as in lambda=0.01,0.1,1`,
      {
        argument: flag,
      },
    );
  }
  const name = Object.hasOwn(settings, word.trim().toLowerCase()) ? settings[word.trim().toLowerCase()] : undefined;
  if (name === undefined) {
    const meant = nearest(word, Object.keys(settings));
    throw new ArgumentError(
      `Cannot use ${flag} ${JSON.stringify(text)}: it takes ${axisNames.join(", ")}` +
        (meant === undefined ? "" : ` (did you mean ${meant}?)`),
      { argument: flag },
    );
  }
  const texts = valuesOf(list, { name, flag });
  if (texts.length > mostValues) {
    throw new ArgumentError(
      `Cannot use ${flag} with ${texts.length} values of ${name}: it takes ${mostValues} at most`,
      {
        argument: flag,
      },
    );
  }
  return axisOf(name, texts, `${flag} ${name}`);
}

/** The texts between commas; "1..4" stands for 1, 2, 3, 4. */
function valuesOf(list: string, { name, flag }: { name: string; flag: string }): string[] {
  const texts = list.split(",").map((text) => text.trim()).filter((text) => text !== "");
  if (texts.length === 0) {
    throw new ArgumentError(`Cannot use ${flag} ${name}= without values: write ${name}=A,B,C`, { argument: flag });
  }
  return texts.flatMap((text) => {
    const [, first, last] = /^(\d+)\.\.(\d+)$/.exec(text) ?? [];
    if (first === undefined || (name !== "seed" && name !== "steps")) return [text];
    const count = BigInt(last) - BigInt(first) + 1n;
    if (count < 1n || count > BigInt(mostValues)) {
      throw new ArgumentError(
        `Cannot use ${flag} ${name}=${text}: a range runs upward over at most ${mostValues} values`,
        { argument: flag },
      );
    }
    return Array.from({ length: Number(count) }, (_, i) => String(BigInt(first) + BigInt(i)));
  });
}

function axisOf(name: GridAxis["name"], texts: readonly string[], written: string): GridAxis {
  const numbers = (range: Parameters<typeof parseNumber>[2]) => texts.map((text) => parseNumber(text, written, range));
  switch (name) {
    case "seed":
      return { name, values: texts.map((text) => parseSeed(text, written)) };
    case "method":
      return { name, values: texts.map((text) => methodOf(text, written)) };
    case "sampler":
      for (const text of texts) samplerByName(text); // unknown names fail before the model is loaded
      return { name, values: texts };
    case "steps":
      return { name, values: numbers({ kind: "whole", min: 1 }) };
    case "lambda": // the edit's method says whether 0 is one
    case "guidance":
      return { name, values: numbers({ kind: "number", min: 0 }) };
    case "strength":
      return { name, values: numbers({ kind: "number" }) };
  }
}

function methodOf(text: string, written: string): EditMethod {
  const method = editMethods.find((each) => each === text.toLowerCase());
  if (method !== undefined) return method;
  const meant = nearest(text, editMethods);
  throw new ArgumentError(
    `Cannot use ${written} with ${JSON.stringify(text)}: it takes ${editMethods.join(", ")}${
      meant === undefined ? "" : ` (did you mean ${meant}?)`
    }`,
    { argument: written.split(" ")[0] },
  );
}
