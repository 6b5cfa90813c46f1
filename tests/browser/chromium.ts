/**
 * `deno task test:browser`: runs the golden tests of text encoder, UNet, VAE and edit in a page of
 * Chromium. It draws with the pocket model there, before and after an edit, and compares with what
 * Deno draws. `chromium_test.ts` runs it among the tests.
 *
 * @module
 */
import { assert } from "@std/assert";
import { openModulePage } from "../../bench/measure/chromium.ts";
import { assertClose, gpuTest } from "../gpu.ts";
import { goldens, pocket } from "../paths.ts";
import { goldenCases } from "../pipeline/golden_suite.ts";
import { type Drawing, drawPocket } from "../pocket_drawing.ts";

/** The files behind the page's addresses. */
function file(path: string): URL | undefined {
  const [, folder, rest] = /^(goldens|models)\/(.*)$/.exec(path) ?? [];
  if (folder === undefined) return undefined;
  return new URL(`file://${rest.startsWith("pocket/") ? pocket.replace(/pocket$/, "") : `${goldens}/`}${rest}`);
}

const page = await openModulePage({ module: new URL("page.ts", import.meta.url), ready: "golden", file });

for (const { name } of goldenCases) {
  Deno.test({
    name: `in Chromium: ${name}`,
    sanitizeResources: false, // the page outlives the test
    sanitizeOps: false,
    async fn() {
      const failure = await page.evaluate<string | undefined>(`golden(${JSON.stringify(name)})`);
      assert(failure === undefined, failure);
    },
  });
}

gpuTest("the pocket model draws in Chromium what it draws in Deno, before and after an edit", async (gpu) => {
  const drawn = await page.evaluate<Drawing>("draw()");
  console.log(`drawn on ${drawn.device}`);
  const { plain, edited } = await drawPocket(pocket, gpu);
  assertClose(drawn.plain, plain, 1e-4, "plain");
  assertClose(drawn.edited, edited, 5e-4, "edited");
  assert(plain.some((value, i) => Math.abs(value - edited[i]) > 0.01), "the edit changed nothing");
});

Deno.test({
  name: "Chromium ends",
  sanitizeResources: false,
  sanitizeOps: false,
  fn: async () => await page[Symbol.asyncDispose](),
});
