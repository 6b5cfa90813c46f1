import { withEnvironment } from "../environment.ts";
import { pocket } from "../paths.ts";

/** The commit of somebody/pocket. */
export const commit = "0123456789".repeat(4);

/** Runs `body` with a hub cache that holds the pocket model as somebody/pocket, revision "main". */
export async function withCachedModel(cache: string, body: () => unknown): Promise<void> {
  const model = `${cache}/models--somebody--pocket`;
  await Deno.mkdir(`${model}/snapshots`, { recursive: true });
  await Deno.mkdir(`${model}/refs`);
  await Deno.writeTextFile(`${model}/refs/main`, commit);
  await Deno.symlink(pocket, `${model}/snapshots/${commit}`);
  await withEnvironment({ HF_HUB_CACHE: cache }, body);
}
