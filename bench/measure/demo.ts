/**
 * Times the demo, the first command that a user runs, as a whole process.
 *
 * @module
 */
import { runCold } from "./cold_process.ts";
import type { StageRecord } from "../report/report.ts";
import { demoStage } from "../report/stage_names.ts";

const root = new URL("../../", import.meta.url);

/**
 * Runs the demo from the shell with empty shader caches.
 *
 * @returns undefined where no shell is available
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
