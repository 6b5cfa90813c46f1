/**
 * The outcome of a sweep as one HTML file: tables, curves and pictures. It has no scripts and makes
 * no requests.
 *
 * @module
 */
import { countText } from "../../../../engine/inspect.ts";
import { checkArgument, kinds } from "../../../options.ts";
import { bestSettings, type MeasureSummary, type ScoreSummary, type SweepSummary } from "../merge.ts";
import { pictureName } from "../picture_files.ts";
import { editText, picturesOfJob, planKind, type SweepPlan } from "../plan.ts";
import { decimals, percent, rateText } from "../tables.ts";
import { efficacyCurve } from "./curve.ts";
import { escapeHtml, htmlTable, reportStyle, textCell } from "./html.ts";

/** What a report shows beside the scores. */
export interface ReportOptions {
  /** Remarks, such as how many pictures are missing. */
  readonly remarks?: readonly string[];
  /**
   * The picture of a name that `pictureName` gives, as a data URL; undefined where there is none.
   * Default: the report has no pictures.
   */
  readonly picture?: (name: string) => Promise<string | undefined>;
  /** Most rows of pictures, each of one prompt and seed under all settings. Default: 60. */
  readonly maxGrids?: number;
}

const head = ["setting", "efficacy", "generality", "specificity", "harmonic mean", "F", "CLIP score"];

/**
 * The report's HTML.
 *
 * @throws {OptionError} for what is no plan or summary
 */
export async function sweepReport(
  plan: SweepPlan,
  summary: SweepSummary,
  { remarks = [], picture, maxGrids = 60 }: ReportOptions = {},
): Promise<string> {
  checkArgument("write a report", "plan", plan, planKind);
  checkArgument("write a report", "summary", summary, kinds.object);
  const curve = efficacyCurve(summary.settings);
  const grids = picture === undefined ? [] : await gridsOf(plan, { picture, maxGrids });
  const best = bestHtml(summary);
  const sections: [id: string, title: string, html: string][] = [
    ...best === "" ? [] : [["best", "Best setting of each editor", best] as [string, string, string]],
    ["settings", "Settings", settingsHtml(summary)],
    ...curve === "" ? [] : [["curve", "Efficacy and specificity", curve] as [string, string, string]],
    ["edits", "Edits", editsHtml(summary)],
    ...grids.length === 0 ? [] : [["pictures", "Pictures", grids.join("\n")] as [string, string, string]],
    ["method", "How it was measured", methodHtml(plan)],
  ];
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>Sweep of ${escapeHtml(plan.model)}</title>
<style>${reportStyle}</style>
</head>
<body>
<a class="skip" href="#${sections[0][0]}">Skip to the results</a>
<h1>Sweep of ${escapeHtml(plan.model)}</h1>
<p>${countText(summary.settings[0].edits.length, "edit")}, ${countText(summary.settings.length, "setting")}, ${
    summary.planned - summary.missing
  } of ${countText(summary.planned, "picture")}.</p>
${remarks.map((remark) => `<p class="note">${escapeHtml(remark)}</p>`).join("\n")}
<nav aria-label="Sections"><ul>${
    sections.map(([id, title]) => `<li><a href="#${id}">${title}</a></li>`).join("")
  }</ul></nav>
<main>
${sections.map(([id, title, html]) => `<section id="${id}"><h2>${title}</h2>\n${html}</section>`).join("\n")}
</main>
</body>
</html>
`;
}

function cells({ measures, harmonicMean, f, clipScore }: ScoreSummary): string[] {
  return [...measures.map(rateCell), percent(harmonicMean), percent(f), decimals(clipScore)];
}

/** A rate with its interval below it. */
function rateCell(summary: MeasureSummary): string {
  return rateText(summary).replace(/ (\[.*\])$/, ' <span class="interval">$1</span>');
}

function settingsHtml({ settings }: SweepSummary): string {
  const rows = settings.map((each) => [escapeHtml(each.setting.name), ...cells(each)]);
  return htmlTable("Rates in percent with 95 % intervals, by setting", head, rows);
}

/** The best setting of each editor, beside the models without an edit. */
function bestHtml(summary: SweepSummary): string {
  const best = bestSettings(summary);
  if (best.length === 0) return "";
  const shown = summary.settings.filter((each) => each.setting.editor === undefined || best.includes(each));
  const rows = shown.map((each) => [escapeHtml(each.setting.name), ...cells(each)]);
  return `${htmlTable("By harmonic mean, in percent with 95 % intervals", head, rows)}
<p>The best setting is chosen by the same pictures, so its figures are a little better than those of other pictures
would be.</p>`;
}

/** More edits than this are folded. */
const mostOpen = 4;

function editsHtml({ settings }: SweepSummary): string {
  return settings[0].edits.map((edit, i) => {
    const title = escapeHtml(editText(edit));
    const rows = settings.map(({ setting, edits }) => [escapeHtml(setting.name), ...cells(edits[i])]);
    const table = htmlTable("Rates in percent with 95 % intervals", head, rows, `Scores of ${title}`);
    return `<details${
      settings[0].edits.length > mostOpen ? "" : " open"
    }><summary>${title}</summary>\n${table}</details>`;
  }).join("\n");
}

function methodHtml(plan: SweepPlan): string {
  const { pins, clip, steps, cfgScale = "the model's own", samplingMethod = "the model's own" } = plan;
  const facts = [
    ["model", plan.model],
    ["revision", pins.revision],
    ["SHA-256 of the model's files", pins.modelHash],
    ["CLIP model", clip],
    ["version of Blue Rose", pins.version],
    ["steps", steps],
    ["guidance scale", cfgScale],
    ["sampler", samplingMethod],
  ].filter(([, value]) => value !== undefined);
  return `<p>Efficacy: pictures of the source prompt that CLIP finds closer to the destination than to the source.
Generality: the same for related prompts. Specificity: pictures of unrelated prompts that stay closer to their own
prompt. In brackets: Wilson's 95 % interval, which takes pictures as independent. F: harmonic mean of generality and
specificity. CLIP score: mean of 100 cos of each picture with the prompt that it should show.</p>
${htmlTable("Plan", ["what", "value"], facts.map(([name, value]) => [`${name}`, textCell(`${value}`)]))}`;
}

/** For each prompt and seed, the pictures of all settings side by side, from the same noise. */
async function gridsOf(
  plan: SweepPlan,
  { picture, maxGrids }: { picture: (name: string) => Promise<string | undefined>; maxGrids: number },
): Promise<string[]> {
  const grids: string[] = [];
  let shown = 0, edit = "";
  for (const job of plan.jobs) {
    if (job.setting !== 0) continue;
    for (const each of picturesOfJob(plan, job)) {
      if (shown >= maxGrids) {
        return [...grids, `<p>Further pictures are left out: the report shows ${maxGrids} prompts.</p>`];
      }
      const figures: string[] = [];
      for (const [setting, { name }] of plan.settings.entries()) {
        const url = await picture(pictureName(plan, { ...job, ...each, setting }));
        if (url === undefined) continue;
        const text = `${each.prompt}, seed ${each.seed}, ${name}`;
        const image = `<img src="${escapeHtml(url)}" alt="${escapeHtml(text)}" decoding="async">`;
        figures.push(`<figure>${image}<figcaption>${escapeHtml(captionOf(plan, setting))}</figcaption></figure>`);
      }
      if (figures.length === 0) continue;
      const title = `${escapeHtml(each.prompt)} <small>(${each.measure}, seed ${each.seed})</small>`;
      const heading = editText(plan.rows[job.row]);
      if (heading !== edit) grids.push(`<h3>${escapeHtml(edit = heading)}</h3>`);
      grids.push(`<h4>${title}</h4>\n<div class="grid">${figures.join("")}</div>`);
      shown++;
    }
  }
  return grids;
}

function captionOf({ settings }: SweepPlan, setting: number): string {
  const { method, name } = settings[setting];
  return method === "baseline" ? "before" : method === "oracle" ? "oracle" : name;
}
