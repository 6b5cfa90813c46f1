/**
 * `deno task test:browser`: generates images with the pocket model, before and after an edit, in a
 * page of Chromium (Debian's package `chromium`), and compares them with Deno's WebGPU. Not part of
 * the test suite, because it downloads a browser driver and a bundler.
 *
 * @module
 */
import { assert } from "@std/assert";
import { assertClose, gpuTest } from "../gpu.ts";
import { chromiumPath } from "./find_chromium.ts";
import { type Drawing, drawPocket, pocket } from "../pocket_drawing.ts";

const files = ["model_index.json", ...await filesOf("scheduler", "text_encoder", "tokenizer", "unet", "vae")];

const name = "the pocket model draws in Chromium what it draws in Deno, before and after an edit";

if (!chromiumPath) {
  Deno.test.ignore(`${name} [skipped: no Chromium is installed (apt-get install chromium)]`, () => {});
} else {
  gpuTest(name, async (gpu) => {
    const drawn = await drawInChromium(chromiumPath!);
    console.log(`drawn on ${drawn.device}`);
    const { plain, edited } = await drawPocket(pocket.pathname, gpu);
    assertClose(drawn.plain, plain, 1e-4, "plain");
    assertClose(drawn.edited, edited, 5e-4, "edited");
    assert(plain.some((value, i) => Math.abs(value - edited[i]) > 0.01), "the edit changed nothing");
  });
}

/** Serves the bundled page and the model on loopback, and opens them in Chromium. */
async function drawInChromium(executablePath: string): Promise<Drawing> {
  // Not in deno.json, and --no-lock in the task: Deno installs every package that deno.lock names.
  const driver = "npm:playwright-core@1.65.1";
  const { chromium } = await import(driver);
  const bundled = await Deno.makeTempDir();
  const entry = new URL("page.ts", import.meta.url).pathname;
  const { success, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["bundle", "--quiet", "--no-lock", "--platform", "browser", "--code-splitting", "--outdir", bundled, entry],
    cwd: new URL("../../", import.meta.url),
    env: { NO_COLOR: "1" },
  }).output();
  assert(success, new TextDecoder().decode(stderr));
  await using server = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen: () => {} }, async (request) => {
    const { pathname } = new URL(request.url);
    if (pathname === "/") {
      return new Response(`<script type="module" src="/page.js"></script>`, {
        headers: { "content-type": "text/html" },
      });
    }
    const file = pathname.startsWith("/model/") ? new URL(pathname.slice(7), pocket) : `${bundled}${pathname}`;
    try {
      const type = pathname.endsWith(".js") ? "text/javascript" : "application/octet-stream";
      return new Response(await Deno.readFile(file), { headers: { "content-type": type } });
    } catch {
      return new Response("no such file", { status: 404 });
    }
  });
  const browser = await chromium.launch({ executablePath, args: ["--no-sandbox", "--enable-unsafe-webgpu"] });
  try {
    const page = await browser.newPage();
    const failures: string[] = [];
    page.on("pageerror", (error: Error) => failures.push(String(error)));
    await page.goto(`http://127.0.0.1:${server.addr.port}/`);
    await page.waitForFunction("globalThis.draw !== undefined", undefined, { timeout: 20_000 }).catch(() => {
      throw new Error(`The page did not load: ${failures.join("; ")}`);
    });
    return await page.evaluate(`draw(${JSON.stringify(files)})`);
  } finally {
    await browser.close();
    await Deno.remove(bundled, { recursive: true });
  }
}

async function filesOf(...folders: string[]): Promise<string[]> {
  const lists = await Promise.all(
    folders.map(async (folder) =>
      (await Array.fromAsync(Deno.readDir(new URL(`${folder}/`, pocket)))).map((entry) => `${folder}/${entry.name}`)
    ),
  );
  return lists.flat();
}
