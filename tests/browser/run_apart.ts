/**
 * Runs a file of browser tests in a process of its own: its driver of Chromium must not get into
 * deno.lock, whose packages everybody installs.
 *
 * @module
 */
import { assert } from "@std/assert";
import { driver, findChromium, noChromium } from "../../bench/measure/chromium.ts";

const root = new URL("../../", import.meta.url);

/** Registers a test that runs `file`; it is skipped where Chromium or a package is missing. */
export async function testApart(name: string, file: URL, packages: readonly string[] = []): Promise<void> {
  const reason = await reasonToSkip([driver, ...packages]);
  if (reason !== undefined) {
    Deno.test.ignore(`${name} [skipped: ${reason}]`, () => {});
    return;
  }
  Deno.test(name, async () => {
    const { success, output } = await deno("test", "-A", "--no-lock", file.pathname);
    console.log(output);
    assert(success, output);
  });
}

async function reasonToSkip(packages: readonly string[]): Promise<string | undefined> {
  if (await findChromium() === undefined) return noChromium;
  const { success } = await deno("cache", "--no-lock", ...packages);
  return success ? undefined : `${packages.join(" and ")} cannot be installed`;
}

async function deno(...args: string[]): Promise<{ success: boolean; output: string }> {
  const command = new Deno.Command(Deno.execPath(), { args, cwd: root, env: { NO_COLOR: "1" } });
  const { success, stdout, stderr } = await command.output();
  const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
  return { success, output: text(stdout) + text(stderr) };
}
