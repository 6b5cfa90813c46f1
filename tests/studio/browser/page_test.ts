/**
 * Runs `checks.ts` in a process of its own: its driver of Chromium must not get into deno.lock,
 * whose packages everybody installs.
 */
import { assert } from "@std/assert";
import { axe, driver, findChromium } from "./studio.ts";

const name = "the studio in Chromium";
const root = new URL("../../../", import.meta.url);

async function deno(...args: string[]): Promise<{ success: boolean; output: string }> {
  const { success, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args,
    cwd: root,
    env: { NO_COLOR: "1" },
  })
    .output();
  const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
  return { success, output: text(stdout) + text(stderr) };
}

async function reasonToSkip(): Promise<string | undefined> {
  if (await findChromium() === undefined) return "no Chromium is installed (apt-get install chromium)";
  const { success } = await deno("cache", "--no-lock", driver, axe);
  return success ? undefined : `${driver} and ${axe} cannot be installed`;
}

const reason = await reasonToSkip();
if (reason !== undefined) {
  Deno.test.ignore(`${name} [skipped: ${reason}]`, () => {});
} else {
  Deno.test(name, async () => {
    const checks = new URL("checks.ts", import.meta.url).pathname;
    const { success, output } = await deno("test", "-A", "--no-lock", checks);
    console.log(output);
    assert(success, output);
  });
}
