import { assert, assertEquals } from "@std/assert";
import { mergeResults } from "../../../../../pipeline/evaluation/sweep/merge.ts";
import { pictureName } from "../../../../../pipeline/evaluation/sweep/picture_files.ts";
import { picturesOfJob, type SweepResult } from "../../../../../pipeline/evaluation/sweep/plan.ts";
import { seriesColors } from "../../../../../pipeline/evaluation/sweep/report/curve.ts";
import { reportStyle } from "../../../../../pipeline/evaluation/sweep/report/html.ts";
import { sweepReport } from "../../../../../pipeline/evaluation/sweep/report/report.ts";
import { planOf, rows, settings } from "../plans.ts";

const evil = '<script>alert("1")</script>';
const plan = {
  ...planOf(1, settings([0.1, 1], ["baseline", "edit", "oracle"])),
  rows: [{ ...rows[0], source: evil }, rows[1]],
};
const results = plan.jobs.flatMap((job) =>
  picturesOfJob(plan, job).map((picture): SweepResult => ({
    ...picture,
    ...job,
    plan: "",
    logits: [1, job.setting],
    logitScale: 100,
    fits: job.setting > 1 ? "destination" : "source",
  }))
);

/** Whether every element that is opened is closed, in order. */
function isBalanced(html: string): boolean {
  const open: string[] = [];
  for (const [, end, name, self] of html.matchAll(/<(\/?)([a-z][a-z0-9]*)[^<>]*?(\/?)>/g)) {
    if (["meta", "img", "link", "br"].includes(name) || self === "/") continue;
    if (end === "") open.push(name);
    else if (open.pop() !== name) return false;
  }
  return open.length === 0;
}

Deno.test("the report is one file of escaped HTML without scripts and requests, with a curve over λ", async () => {
  const html = await sweepReport(plan, mergeResults(plan, results), { remarks: ["3 <are> missing"] });
  assert(isBalanced(html));
  assert(!/<script|<link|<iframe|href="(?!#)|src=|url\(|@import/.test(html), html.match(/<script|src=|url\(/)?.[0]);
  assert(html.includes("&lt;script&gt;") && html.includes("3 &lt;are&gt; missing"));
  assert(html.includes("default-src 'none'"));
  assertEquals(html.match(/<path class="mark"/g)?.length, 4); // each setting is a point
  const [, legend] = /<ul class="legend">(.*?)<\/ul>/.exec(html)!;
  assertEquals([...legend.matchAll(/<\/svg> (.*?)<\/li>/g)].map(([, name]) => name), [
    "baseline",
    "time over λ",
    "oracle",
  ]);
  const [, best] = /<section id="best">([^]*?)<\/section>/.exec(html)!;
  assertEquals(best.match(/<tr>/g)?.length, 1 + 3, "the head, the best setting of time, baseline and oracle");
  assert(html.includes('<a class="skip" href="#best">'));
});

Deno.test("the report shows the pictures that are there, of all settings side by side", async () => {
  const asked: string[] = [];
  const missing = pictureName(plan, {
    ...plan.jobs[1],
    measure: "specificity",
    prompt: "a lemon",
    edited: "a blue lemon",
  });
  const picture = (name: string) => {
    asked.push(name);
    return Promise.resolve(name === missing ? undefined : "data:image/png;base64,AA==");
  };
  const summary = mergeResults(plan, results);
  const html = await sweepReport(plan, summary, { picture });
  assert(isBalanced(html));
  assertEquals(html.match(/<img /g)?.length, 2 * 3 * 4 - 1);
  assertEquals(html.match(/<img [^>]*alt="[^"]+"/g)?.length, 2 * 3 * 4 - 1);
  assertEquals(new Set(asked).size, results.length);
  const few = await sweepReport(plan, summary, { picture, maxGrids: 2 });
  assert(few.match(/<img /g)?.length === 8 && few.includes("Further pictures are left out"));
});

Deno.test("a report has one outline, tables with scopes, named regions, and links that lead somewhere", async () => {
  const picture = () => Promise.resolve("data:image/png;base64,AA==");
  const many = { ...plan, rows: Array.from({ length: 5 }, (_, i) => ({ ...rows[0], source: `a rose ${i}` })) };
  for (const [given, open] of [[plan, 2], [many, 0]] as const) {
    const html = await sweepReport(given, mergeResults(given, []), { picture });
    const levels = [...html.matchAll(/<h(\d)/g)].map(([, level]) => Number(level));
    assertEquals(levels.filter((level) => level === 1).length, 1);
    levels.forEach((level, i) => assert(i === 0 ? level === 1 : level <= levels[i - 1] + 1, levels.join(" ")));
    assertEquals(html.match(/<th(?=[ >])(?! scope="(col|row)")/g), null);
    assertEquals(html.match(/<table><caption>[^<]+<\/caption>/g)?.length, html.match(/<table/g)?.length);
    assertEquals(html.match(/<img (?![^>]*alt="[^"])/g), null);
    const labels = [...html.matchAll(/role="region" aria-label="([^"]*)" tabindex="0"/g)].map(([, label]) => label);
    assertEquals([labels.length, new Set(labels).size], [html.match(/class="wide"/g)!.length, labels.length]);
    const ids = [...html.matchAll(/ id="([^"]*)"/g)].map(([, id]) => id);
    assertEquals(new Set(ids).size, ids.length);
    for (const [, target] of html.matchAll(/href="#([^"]*)"/g)) assert(ids.includes(target), target);
    assertEquals(html.match(/<details open>/g)?.length ?? 0, open, "many edits are folded");
    assertEquals(html.match(/<details/g)?.length, html.match(/<summary>/g)?.length);
  }
});

/** The contrast of two colors as #rrggbb (WCAG 2, section 1.4.3). */
function contrast(one: string, other: string): number {
  const luminance = (color: string) =>
    [1, 3, 5].map((at) => parseInt(color.slice(at, at + 2), 16) / 255)
      .map((value) => value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4)
      .reduce((sum, value, i) => sum + [0.2126, 0.7152, 0.0722][i] * value, 0);
  const [light, dark] = [luminance(one), luminance(other)].toSorted((a, b) => b - a);
  return (light + 0.05) / (dark + 0.05);
}

Deno.test("series have colors of a contrast of 4.5 or more on screens of both kinds and on paper", () => {
  const grounds = ["#ffffff", "#121212", "#ffffff"]; // light, dark, print
  const roots = [...reportStyle.matchAll(/:root \{([^}]*)\}/g)].map(([, rules]) => rules);
  assertEquals(roots.length, grounds.length);
  for (const [i, rules] of roots.entries()) {
    const colors = [...rules.matchAll(/--c\d+: (#[0-9a-f]{6});/g)].map(([, color]) => color);
    assertEquals(colors.length, seriesColors);
    for (const color of colors) assert(contrast(color, grounds[i]) >= 4.5, `${color} on ${grounds[i]}`);
  }
});

Deno.test("a report of no pictures has no curve and no number that is none", async () => {
  const html = await sweepReport(plan, mergeResults(plan, []));
  assert(isBalanced(html) && !html.includes("<svg") && !html.includes("NaN"));
});
