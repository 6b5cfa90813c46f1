import { countText } from "../engine/inspect.ts";
import { ModelEdit } from "../pipeline/editing/model_edit.ts";
import { drawGrid, type GridAxis, type GridCell } from "../pipeline/generation/xy_grid.ts";
import type { PromptSyntax } from "../pipeline/generation/tokenized_prompts.ts";
import { contactSheet, type SheetRow } from "../pipeline/image/contact_sheet.ts";
import { generationText, seedForJson } from "../pipeline/image/generation_text.ts";
import { encodePicture, formatOfPath, type JimpImage, type Picture } from "../pipeline/image/picture.ts";
import type { EditingPipeline } from "../pipeline/editing_pipeline.ts";
import { ArgumentError } from "./argument_error.ts";
import { type Command, defineCommand } from "./command.ts";
import { recordOf } from "./draw_prompts.ts";
import { pairsOfFlags } from "./edit_pairs.ts";
import { anyModelFlag, editFlag, parseEdits } from "./edits_of_flags.ts";
import { pictureTexts } from "./exact_record.ts";
import { overwriteFlag } from "./files.ts";
import { modelFlags, samplingFlags } from "./flags.ts";
import { methodFlags } from "./method_flags.ts";
import { axisNames, parseAxis } from "./grid_axis.ts";
import { checkEdited, checkLambdas, editorsOf, loadEdit } from "./grid_edits.ts";
import { interruptSignal } from "./interrupt.ts";
import { xlSettings } from "./xl_flags.ts";
import { applySampling, openPipeline } from "./open_pipeline.ts";
import { checkSampler } from "./sampler.ts";
import { checkPictures, FreeNames } from "./output_names.ts";
import { Parts } from "./parts.ts";
import { note, printMode, say, sayJson } from "./printer.ts";
import { remarkCompiling, showProgress } from "./progress.ts";

const { batchSize: _, ...samplingOfCell } = samplingFlags;

/** `bluerose xy`: one prompt over two settings, as one labeled picture. */
export const command: Command = defineCommand({
  name: "xy",
  summary: "draw one prompt over two settings, as a labeled grid",
  usage: "-m MODEL -p PROMPT --x NAME=VALUES [--y NAME=VALUES] [flags]",
  details:
    `Settings: ${axisNames.join(", ")}. Values are separated by commas; seed and steps take ranges such as 1..4. ` +
    "lambda and strength are those of the edits: give --source and --destination, or --edit. method solves the edit by " +
    "each editor, with the flags that it takes. " +
    "The model is loaded once, and an edit is solved again for each lambda. Ctrl-C writes the cells that are finished.",
  flags: {
    prompt: { kind: "text", alias: "p", required: true, group: "Prompts", help: "prompt to draw" },
    x: {
      kind: "text",
      placeholder: "NAME=VALUES",
      required: true,
      group: "Grid",
      help: "setting from left to right, as in lambda=0.01,0.1,1",
    },
    y: { kind: "text", placeholder: "NAME=VALUES", group: "Grid", help: "setting from top to bottom, as in seed=1..4" },
    output: {
      kind: "text",
      alias: "o",
      default: "xy.png",
      placeholder: "FILE",
      group: "Output",
      help: "picture file to write (.png or .jpg)",
      access: { kind: "write", purpose: "write the grid" },
    },
    overwrite: overwriteFlag,
    ...modelFlags,
    source: { kind: "texts", group: "Edit", help: "under-specified prompt; one for each --destination" },
    destination: { kind: "texts", group: "Edit", help: "the source prompt with words added; one for each --source" },
    edit: editFlag,
    anyModel: anyModelFlag,
    ...methodFlags,
    preserve: { kind: "texts", group: "Edit", help: "prompt that the edit should not change" },
    ...samplingOfCell,
  },
  examples: [
    {
      line:
        'xy -m models/pocket -p "a rose" --source "A rose" --destination "A blue rose" --x lambda=0.1,100,500,1000 --y seed=1..3 --cfg-scale 5',
      says: "an edit under weak to strong regularization, for three seeds",
    },
    {
      line:
        'xy -m models/pocket -p "a rose" --method nullspace --source "a rose" --destination "a tulip" --preserve "a cat" --preserve "a car" --x strength=0,0.5,1 --cfg-scale 5',
      says: "roses erased along directions that cats and cars do not use, at three strengths",
    },
    {
      line:
        'xy -m models/pocket -p "a rose" --source "a rose" --destination "" --tokens last --preserve "a cat" --x method=time,uce,nullspace --y seed=1..3 --cfg-scale 5',
      says: "roses erased by each editor, for three seeds",
    },
    {
      line: 'xy -m models/pocket -p "a cat" --x sampler=euler,ddim,dpm++2m --y steps=5,10,20',
      says: "samplers and steps",
    },
  ],
  async run(values) {
    const { prompt, source, destination, seed, steps, cfgScale } = values;
    const format = formatOfPath(values.output);
    const x = parseAxis(values.x, "--x");
    const y = values.y === undefined ? undefined : parseAxis(values.y, "--y");
    const axes = y ? [x, y] : [x];
    if (x.name === y?.name) {
      throw new ArgumentError(`Cannot use ${x.name} for both --x and --y: choose two settings`, { argument: "--y" });
    }
    const pairs = pairsOfFlags(source, destination);
    const files = parseEdits(values.edit);
    checkEdited(axes, { pairs: pairs.length, files: files.length });
    const methods = editorsOf(axes, values);
    if (methods.some(({ method }) => method === "nullspace") && pairs.length > 0 && values.preserve.length === 0) {
      throw new ArgumentError("Cannot edit in a null space without prompts to preserve: give --preserve", {
        argument: "--preserve",
      });
    }
    if (pairs.length > 0) checkLambdas(axes, values);
    checkSampler(values);
    await checkPictures([values.output], values);
    const parts = await Parts.beside(values.output);
    const start = performance.now();
    using owned = new DisposableStack();
    const pipe = owned.use(await openPipeline(values));
    applySampling(pipe, values);
    for (const { path, weight } of files) {
      const edit = owned.use(await loadEdit(path, pipe, { axes, anyModel: values.anyModel }));
      pipe.edits.push(edit, { strength: weight });
    }
    for (const method of pairs.length > 0 ? methods : []) {
      const options = { ...method, preserve: values.preserve, signal: interruptSignal() };
      pipe.edits.push(owned.use(await ModelEdit.solve(pairs, options, pipe)));
    }

    const cells: GridCell[] = [];
    const count = x.values.length * (y?.values.length ?? 1);
    let failure: unknown;
    {
      using bar = showProgress("drawing", { total: count, unit: "picture" });
      using _watch = remarkCompiling(pipe.gpu, bar);
      try {
        const { negativePrompt, clipSkip, loraDir, editNegativePrompt, width, height } = values;
        const grid = drawGrid(pipe, prompt, {
          ...{ negativePrompt, clipSkip, loraDir, editNegativePrompt, width, height },
          x,
          y,
          promptSyntax: values.promptSyntax as PromptSyntax,
          xl: xlSettings(values),
          seed,
          steps,
          guidanceScale: cfgScale,
          signal: interruptSignal(),
        });
        for await (const cell of grid) {
          cells.push(cell);
          const { settings } = cell;
          const textOf = await pictureTexts(pipe, { ...values, ...settings, cfgScale: settings.guidance }, [prompt], {
            sampler: settings.sampler,
          });
          await parts.add(`${cell.row + 1}_${cell.column + 1}`, cell.picture, textOf({ prompt, seed: settings.seed }));
          bar.advance(1, labelOf(x, cell.column));
        }
      } catch (error) {
        if (cells.length === 0) throw error;
        failure = error; // what is finished is written first
      }
    }
    const record = await recordOf(pipe, values);
    const text = generationText({ ...record, prompt, seed });
    const grid = { x: axisJson(x), y: y && axisJson(y), finished: cells.map(({ column, row }) => [column, row]) };
    const sheet = await sheetOf({
      x,
      y,
      cells,
      title: prompt,
      subtitle: subtitleOf({ ...values, cfgScale: cfgScale ?? pipe.defaultGuidanceScale }, axes, pipe),
    });
    // an incomplete grid replaces nothing
    const names = new FreeNames(failure === undefined ? values : { overwrite: false });
    const path = await names.write(
      values.output,
      await encodePicture(sheet, format, {
        text: { ...text, bluerose: JSON.stringify({ ...JSON.parse(text.bluerose), grid }) },
      }),
    );
    await parts.replaceBy(path);
    say(path);
    if (failure !== undefined) {
      note(`${path} holds ${cells.length} of ${countText(count, "picture")}`);
      throw failure;
    }
    if (printMode().json) {
      sayJson({
        path,
        ...grid,
        prompt,
        settings: { ...record, seed },
        device: pipe.gpu.info.name,
        timings: { totalMs: performance.now() - start },
      });
    }
  },
});

function labelOf(axis: GridAxis, index: number): string {
  return `${axis.name} ${axis.values[index]}`;
}

/** The settings that are the same in all cells. */
function subtitleOf(
  { seed, steps, cfgScale, samplingMethod }: {
    seed: bigint;
    steps: number;
    cfgScale: number;
    samplingMethod: string | undefined;
  },
  axes: readonly GridAxis[],
  pipe: EditingPipeline,
): string {
  const isFixed = (name: GridAxis["name"]) => !axes.some((axis) => axis.name === name);
  const pairs = pipe.edits.records.map(({ source, destination, method, lambda }) =>
    [
      `${source} -> ${destination || '""'}${method === undefined || !isFixed("method") ? "" : ` (${method})`}`,
      ...isFixed("lambda") && isFixed("method") ? [`lambda ${lambda}`] : [],
    ].join(", ")
  );
  return [
    ...new Set(pairs), // each method has the same
    ...(isFixed("seed") ? [`seed ${seed}`] : []),
    ...(isFixed("steps") ? [countText(steps, "step")] : []),
    ...(isFixed("guidance") ? [`guidance ${cfgScale}`] : []),
    ...(isFixed("sampler") && samplingMethod !== undefined ? [samplingMethod] : []),
  ].join(", ");
}

function axisJson({ name, values }: GridAxis): { name: string; values: (number | string)[] } {
  return { name, values: values.map((value) => typeof value === "bigint" ? seedForJson(value) : value) };
}

/** The labeled sheet; cells that are not finished are blank. */
async function sheetOf(
  { x, y, cells, title, subtitle }: {
    x: GridAxis;
    y: GridAxis | undefined;
    cells: readonly GridCell[];
    title: string;
    subtitle: string;
  },
): Promise<JimpImage> {
  const { width, height } = cells[0].picture;
  const blank: Picture = { width, height, data: new Uint8Array(width * height * 3).fill(236) };
  const rows = (y?.values ?? [undefined]).map((_, row): SheetRow => ({
    caption: y ? labelOf(y, row) : "",
    cells: x.values.map((_, column) => ({
      picture: cells.find((cell) => cell.column === column && cell.row === row)?.picture ?? blank,
    })),
  }));
  const columns = x.values.map((_, column) => labelOf(x, column));
  return await contactSheet(rows, { title, subtitle, columns, smooth: true, captionWidth: 80 });
}
