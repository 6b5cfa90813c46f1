/**
 * The first thing that a user runs, timed from outside.
 *
 * @module
 */
import { runCold } from "./cold_process.ts";
import type { StageRecord } from "../report/report.ts";
import { demoStage } from "../report/stage_names.ts";

const root = new URL("../../", import.meta.url);

/**
 * Runs the demo by the shell, without what drivers keep of former runs. @returns nothing where
 * there is no shell for it
 */
export async function measureDemo(): Promise<StageRecord | undefined> {
  if (Deno.build.os === "windows") return undefined;
  const folder = await Deno.makeTempDir({ prefix: "bluerose-demo-" });
  try {
    const started = performance.now();
    await runCold("sh", ["run.sh", "demo", "--output", `${folder}/sheet.png`], { cwd: root.pathname });
    return { stage: demoStage, ms: performance.now() - started };
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}
