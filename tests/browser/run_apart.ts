/**
 * Runs a file of browser tests in a process of its own: its driver of Chromium must not get into
 * deno.lock, whose packages everybody installs.
 *
 * @module
 */
import { assert } from "@std/assert";
import { driver, findChromium, noChromium } from "../../bench/measure/chromium.ts";
import { runDeno } from "../run_deno.ts";

const root = new URL("../../", import.meta.url);

/** Registers a test that runs `file`; it is skipped where Chromium or a package is missing. */
export async function testApart(name: string, file: URL, packages: readonly string[] = []): Promise<void> {
  const reason = await reasonToSkip([driver, ...packages]);
  if (reason !== undefined) {
    Deno.test.ignore(`${name} [skipped: ${reason}]`, () => {});
    return;
  }
  Deno.test(name, async () => {
    const { success, out, err } = await runDeno(["test", "-A", "--no-lock", file.pathname], { cwd: root });
    console.log(out + err);
    assert(success, out + err);
  });
}

async function reasonToSkip(packages: readonly string[]): Promise<string | undefined> {
  if (await findChromium() === undefined) return noChromium;
  const { success } = await runDeno(["cache", "--no-lock", ...packages], { cwd: root });
  return success ? undefined : `${packages.join(" and ")} cannot be installed`;
}
