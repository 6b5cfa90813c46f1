import { OptionError } from "../errors.ts";
import { shown } from "../options.ts";

/**
 * `generate({ prompt, … })` as `generate(prompt, { … })`.
 *
 * @throws {OptionError} for options that are no object, and for two objects
 */
export function splitPrompt<Options extends object>(
  first: string | readonly string[] | undefined | (Options & { readonly prompt?: string | readonly string[] }),
  options: Options | undefined,
): [prompt: string | readonly string[] | undefined, options: Options] {
  // Spreading a number or a list would drop what the caller meant.
  if (options != null && (typeof options !== "object" || Array.isArray(options))) {
    throw new OptionError(`Cannot generate as options must be an object of named values: ${shown(options)}`, {
      option: "options",
      value: options,
    });
  }
  if (typeof first !== "object" || first === null || Array.isArray(first)) {
    return [first as string | readonly string[] | undefined, options ?? {} as Options];
  }
  if (options !== undefined) {
    throw new OptionError("Cannot generate from two objects of options: give generate({ prompt, … }) only one", {
      option: "options",
      value: options,
    });
  }
  const { prompt, ...rest } = first as { prompt?: string | readonly string[] };
  return [prompt, rest as Options];
}
