import { OptionError } from "../errors.ts";
import { takeOptions } from "../options.ts";

/**
 * `generate({ prompt, … })` as `generate(prompt, { … })`.
 *
 * @throws {OptionError} for options that are no object, and for two objects
 */
export function splitPrompt<Options extends object>(
  first: string | readonly string[] | undefined | (Options & { readonly prompt?: string | readonly string[] }),
  options: Options | undefined,
): [prompt: string | readonly string[] | undefined, options: Options] {
  if (options != null) options = takeOptions("generate", options);
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
