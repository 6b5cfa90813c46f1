/**
 * The before-and-after sheet that `edit` and `demo` write.
 *
 * @module
 */
import { contactSheet, type SheetOptions, type SheetRow } from "../pipeline/image/contact_sheet.ts";
import { generationText } from "../pipeline/image/generation_text.ts";
import { encodePicture, formatOfPath, type Picture } from "../pipeline/image/picture.ts";
import type { EditingPipeline } from "../pipeline/editing_pipeline.ts";
import { drawPrompts, recordOf } from "./draw_prompts.ts";
import { pictureTexts } from "./exact_record.ts";
import type { ModelValues, SamplingValues } from "./flags.ts";
import { FreeNames } from "./output_names.ts";
import { Parts } from "./parts.ts";

/** A prompt of the sheet, with an optional note such as "related". */
export interface SheetPrompt {
  readonly prompt: string;
  readonly note?: string;
}

/**
 * Draws all prompts with one seed, applies the edit, draws them again and writes both side by side.
 * A PNG file also stores prompts, seed and edit as text.
 *
 * @param wanted the file's name; a number is added where it is taken
 * @param options.edit applies the edit and returns the subtitle
 * @returns the path of the file
 */
export async function writeBeforeAfterSheet(
  pipe: EditingPipeline,
  wanted: string,
  options: {
    prompts: readonly SheetPrompt[];
    title: string;
    values: SamplingValues & ModelValues & { readonly overwrite: boolean };
    signal: AbortSignal;
    edit: () => Promise<string>;
  },
): Promise<string> {
  const { prompts, title, values, signal, edit } = options;
  const format = formatOfPath(wanted);
  const parts = await Parts.beside(wanted);
  const { seed } = values, drawn = prompts.map(({ prompt }) => prompt);
  const draw = async (label: string) => {
    const textOf = await pictureTexts(pipe, values, drawn);
    return await drawPrompts(pipe, drawn, prompts.map(() => seed), values, {
      label,
      signal,
      onPicture: (picture, i) => parts.add(`${label}_${i + 1}`, picture, textOf({ prompt: drawn[i], seed })),
    });
  };
  const before = await draw("before");
  const subtitle = await edit();
  const after = await draw("after");
  const sheet = await contactSheet(...layoutOf(prompts, { before, after }, { title, subtitle, smooth: true }));
  const record = await recordOf(pipe, values);
  const text = generationText({ ...record, prompt: drawn.join("\n"), seed });
  const bluerose = JSON.stringify({ ...JSON.parse(text.bluerose), sheet: { columns: ["before", "after"], prompts } });
  const bytes = await encodePicture(sheet, format, { text: { ...text, bluerose } });
  const path = await new FreeNames(values).write(wanted, bytes);
  await parts.replaceBy(path);
  return path;
}

/** Prompts beside each other at most; more stand below each other. */
const promptsAcross = 6;

/** A column for each of a few prompts, or a row for each of many. */
function layoutOf(
  prompts: readonly SheetPrompt[],
  pictures: Record<"before" | "after", readonly Picture[]>,
  options: SheetOptions,
): [SheetRow[], SheetOptions] {
  const states = ["before", "after"] as const;
  if (prompts.length <= promptsAcross) {
    const rows = states.map((state) => ({
      caption: state,
      cells: pictures[state].map((picture, i) => ({ picture, caption: state === "after" ? prompts[i].note : "" })),
    }));
    return [rows, { ...options, columns: prompts.map(({ prompt }) => prompt), captionWidth: 44 }];
  }
  const rows = prompts.map(({ prompt, note }, i) => ({
    caption: prompt,
    note,
    cells: states.map((state) => ({ picture: pictures[state][i] })),
  }));
  return [rows, { ...options, columns: states }];
}
