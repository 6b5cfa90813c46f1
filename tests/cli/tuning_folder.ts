import { withEnvironment } from "../environment.ts";
import { temporaryFolder } from "./running.ts";

/** Runs `body` with the tuning file in a new folder. */
export async function withTuningFolder(body: () => Promise<void>): Promise<void> {
  await using folder = await temporaryFolder();
  await withEnvironment({ BLUEROSE_TILES: `${folder.path}/cache/tiles.json` }, body);
}
