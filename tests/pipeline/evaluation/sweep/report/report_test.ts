import { assert, assertEquals } from "@std/assert";
import { mergeResults } from "../../../../../pipeline/evaluation/sweep/merge.ts";
import { pictureName } from "../../../../../pipeline/evaluation/sweep/picture_files.ts";
import { picturesOfJob, type SweepResult } from "../../../../../pipeline/evaluation/sweep/plan.ts";
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
  assertEquals(html.match(/<circle/g)?.length, 4); // each setting is a point
  assert(html.includes("time over λ"));
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

Deno.test("a report of no pictures has no curve and no number that is none", async () => {
  const html = await sweepReport(plan, mergeResults(plan, []));
  assert(isBalanced(html) && !html.includes("<svg") && !html.includes("NaN"));
});
