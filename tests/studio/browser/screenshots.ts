/// <reference lib="dom" />
/**
 * Takes the screenshots of docs/studio.md again: the default recipe, drawn, in a wide window in
 * light and dark, and on a phone. Look at them before they are kept.
 *
 *     deno run -A --no-lock tests/studio/browser/screenshots.ts
 *
 * @module
 */
import { bundlePage } from "../../../studio/server/bundle.ts";
import { openBrowser, type Page, status } from "./studio.ts";

const folder = new URL("../../../docs/studio/", import.meta.url);

const views = [
  { name: "wide", width: 1440, height: 900, colorScheme: "light" },
  { name: "dark", width: 1440, height: 900, colorScheme: "dark" },
  { name: "phone", width: 390, height: 844, colorScheme: "light" },
] as const;

if (import.meta.main) {
  await using browser = await openBrowser();
  await using visit = await browser.visit({ files: await bundlePage() });
  const { page } = visit;
  await status(page, /edited in \d+ ms/);
  await page.getByRole("button", { name: "Draw", exact: true }).click();
  await status(page, /Pictures are up to date/, 900_000);
  for (const { name, width, height, colorScheme } of views) {
    await page.setViewportSize({ width, height });
    await page.emulateMedia({ colorScheme });
    await page.waitForTimeout(1500); // transitions and sweeps end
    await Deno.writeFile(new URL(`${name}.webp`, folder), await webp(page, await page.screenshot()));
  }
}

/** A PNG as WebP, which has a third of its size. */
async function webp(page: Page, png: Uint8Array): Promise<Uint8Array> {
  const encoded: number[] = await page.evaluate(async (bytes: number[]) => {
    const image = await createImageBitmap(new Blob([new Uint8Array(bytes)], { type: "image/png" }));
    const canvas = new OffscreenCanvas(image.width, image.height);
    canvas.getContext("2d")!.drawImage(image, 0, 0);
    const blob = await canvas.convertToBlob({ type: "image/webp", quality: 0.9 });
    return [...new Uint8Array(await blob.arrayBuffer())];
  }, [...png]);
  return new Uint8Array(encoded);
}
