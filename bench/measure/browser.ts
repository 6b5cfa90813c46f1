/**
 * Times a picture of the embedded model in Chromium and in Deno, one after the other, with the same
 * module. Chromium takes the machine's GPU, or its own software device, which is not Deno's.
 *
 * @module
 */
import type { StageRecord } from "../report/report.ts";
import { type TimedPicture, timePicture } from "./browser_page.ts";
import { driver, findChromium, noChromium, openModulePage } from "./chromium.ts";

const pocket = new URL("../../models/pocket/", import.meta.url);

/** Pictures after the first. */
const times = 2;

/** Measures both. Without Chromium or its driver it says so, and measures nothing. */
export async function measureBrowser(
  { steps, onStage, onRemark }: {
    steps: number;
    onStage: (stage: StageRecord) => void;
    onRemark: (remark: string) => void;
  },
): Promise<void> {
  if (await findChromium() === undefined) return onRemark(`not measured: ${noChromium}`);
  const { success, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    // The driver reads files that Deno permits to those alone who may do everything.
    args: ["run", "--quiet", "--allow-all", "--no-lock", import.meta.filename!, `${steps}`],
    cwd: new URL("../../", import.meta.url),
    env: { NO_COLOR: "1" },
  }).output();
  const [said, failed] = [stdout, stderr].map((bytes) => new TextDecoder().decode(bytes).trim());
  if (!success) return onRemark(`not measured: ${driver} could not run Chromium:\n${failed}`);
  const inChromium: TimedPicture = JSON.parse(said.split("\n").at(-1)!);
  const inDeno = await timePicture(pocket, { steps, times });
  const name = (where: string, { device }: TimedPicture) => `picture, ${steps} steps, ${where} (${device})`;
  onStage({ stage: name("Chromium", inChromium), ms: inChromium.ms });
  onStage({ stage: name("Deno", inDeno), ms: inDeno.ms });
}

async function pictureInChromium(steps: number): Promise<TimedPicture> {
  const file = (path: string) => path.startsWith("pocket/") ? new URL(path.slice(7), pocket) : undefined;
  const module = new URL("browser_page.ts", import.meta.url);
  await using page = await openModulePage({ module, ready: "draw", file, adapter: "any" });
  return await page.evaluate<TimedPicture>(`draw(${steps}, ${times})`);
}

if (import.meta.main) console.log(JSON.stringify(await pictureInChromium(Number(Deno.args[0]))));
