/**
 * Chromium with WebGPU on its software device, driven by playwright-core: for the browser tests and
 * for times beside Deno's.
 *
 * @module
 */

/** Where Debian, Ubuntu and Google put it. */
const candidates = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"];

/** Path of a Chromium, if one is installed (Debian's package `chromium`). */
export async function findChromium(): Promise<string | undefined> {
  for (const path of candidates) if (await Deno.stat(path).then(() => true, () => false)) return path;
  return undefined;
}

/**
 * The driver. It is not in deno.json, and who imports it runs with --no-lock: everybody installs
 * what deno.lock names.
 */
export const driver = "npm:playwright-core@1.65.1";

/** What to say where Chromium is missing. */
export const noChromium = "no Chromium is installed (apt-get install chromium)";

// deno-lint-ignore no-explicit-any -- the driver's types come with the driver
export type Driven = any;

/** Which device Chromium takes: the software device, or a GPU if there is one. */
export type ChromiumAdapter = "software" | "any";

/** Starts Chromium. @throws {Error} where there is none */
export async function launchChromium(adapter: ChromiumAdapter = "software"): Promise<Driven> {
  const executablePath = await findChromium();
  if (executablePath === undefined) throw new Error(`Cannot start Chromium: ${noChromium}`);
  const { chromium } = await import(driver);
  const args = ["--headless", "--no-sandbox", "--enable-unsafe-webgpu"];
  if (adapter === "software") args.push("--use-webgpu-adapter=swiftshader");
  return await chromium.launch({ executablePath, args });
}

/** A page that runs a module. */
export interface ModulePage extends AsyncDisposable {
  /** Evaluates an expression in the page, and waits for it if it is a promise. */
  evaluate<T>(expression: string): Promise<T>;
}

/** Options of {@linkcode openModulePage}. */
export interface ModulePageOptions {
  /** The module, which is bundled for browsers. */
  readonly module: URL;
  /** A global that the module sets when it is ready. */
  readonly ready: string;
  /** The file to serve at a path below the page's address, if there is one. */
  readonly file: (path: string) => URL | undefined;
  /** Default: "software". */
  readonly adapter?: ChromiumAdapter;
}

/** Opens an empty page in Chromium that runs a module of this repository. */
export async function openModulePage({ module, ready, file, adapter }: ModulePageOptions): Promise<ModulePage> {
  const scripts = await bundle(module);
  const entry = [...scripts.keys()].find((path) => path === module.pathname.replace(/^.*\/(.*)\.ts$/, "$1.js"));
  await using stack = new AsyncDisposableStack();
  const server = stack.use(
    Deno.serve({ hostname: "127.0.0.1", port: 0, onListen: () => {} }, async ({ url }) => {
      const path = decodeURIComponent(new URL(url).pathname).slice(1);
      const script = scripts.get(path);
      if (path === "") {
        return new Response(`<!doctype html><title>-</title><script type="module" src="/${entry}"></script>`, {
          headers: { "content-type": "text/html" },
        });
      }
      if (script) return new Response(script, { headers: { "content-type": "text/javascript" } });
      const source = file(path);
      const content = source && await Deno.readFile(source).catch(() => undefined);
      return new Response(content ?? null, { status: content ? 200 : 404 });
    }),
  );
  const browser = await launchChromium(adapter);
  stack.defer(() => browser.close());
  const page = await browser.newPage();
  page.setDefaultTimeout(300_000); // the machine may be busy
  const failures: string[] = [];
  page.on("pageerror", (error: Error) => failures.push(String(error)));
  await page.goto(`http://127.0.0.1:${server.addr.port}/`);
  await page.waitForFunction(`globalThis.${ready} !== undefined`, undefined, { timeout: 60_000 }).catch(() => {
    throw new Error(`The page of ${module.pathname} did not load: ${failures.join("; ")}`);
  });
  const owned = stack.move();
  return {
    evaluate: (expression) => page.evaluate(expression),
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

async function bundle(module: URL): Promise<Map<string, Uint8Array<ArrayBuffer>>> {
  const outputDir = "/bundle"; // nothing is written
  const result = await Deno.bundle({
    entrypoints: [module.pathname],
    outputDir,
    platform: "browser",
    codeSplitting: true,
    write: false,
  });
  if (!result.success) throw new Error(result.errors.map(({ text }) => text).join("; "));
  return new Map(result.outputFiles!.map(({ path, contents }) => [path.split("/").at(-1)!, contents!]));
}
