/// <reference lib="dom" />
/** Opens the studio in Chromium, as a visitor finds it. */
import { serveStudio } from "../../../studio/server/serve.ts";
import type { PageFiles } from "../../../studio/server/files.ts";

/** Where Debian, Ubuntu and Google put it. */
const candidates = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"];

/** Path of a Chromium, if one is installed. */
export async function findChromium(): Promise<string | undefined> {
  for (const path of candidates) if (await Deno.stat(path).then(() => true, () => false)) return path;
  return undefined;
}

/** Packages of these tests only: in deno.json, everybody would have to install them. */
export const driver = "npm:playwright-core@1.65.1";
export const axe = "npm:axe-core@4.14.1";

const flags = ["--headless", "--no-sandbox", "--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader"];

// deno-lint-ignore no-explicit-any -- the driver's types come with the driver
export type Page = any;

/** A page of the studio, and what it did. */
export interface Visit extends AsyncDisposable {
  readonly page: Page;
  readonly origin: string;
  /** Addresses of all requests. */
  readonly requests: string[];
  /** Errors that the page did not catch. */
  readonly errors: string[];
}

/** Starts a browser. */
export async function openBrowser(): Promise<AsyncDisposable & { visit(options?: VisitOptions): Promise<Visit> }> {
  const { chromium } = await import(driver);
  const browser = await chromium.launch({ executablePath: await findChromium(), args: flags });
  return {
    visit: (options) => visit(browser, options),
    [Symbol.asyncDispose]: () => browser.close(),
  };
}

interface VisitOptions {
  readonly files?: PageFiles;
  /** Runs in the page before its own scripts. */
  readonly before?: string;
  /** Of the page's address, without "#". */
  readonly fragment?: string;
  /** Only files, as a static host serves them. */
  readonly isStatic?: boolean;
}

// deno-lint-ignore no-explicit-any -- as above
async function visit(browser: any, { files, before, fragment, isStatic }: VisitOptions = {}): Promise<Visit> {
  const pocket = new URL("../../../models/pocket/", import.meta.url).pathname;
  const studio = isStatic ? undefined : serveStudio({ page: files!, pocket, port: 0 });
  const host = isStatic ? staticHost(files!) : undefined;
  const origin = new URL(studio?.address ?? `http://127.0.0.1:${host!.addr.port}/`).origin;
  const context = await browser.newContext({ viewport: { width: 1440, height: 900 }, colorScheme: "light" });
  await context.grantPermissions(["clipboard-read", "clipboard-write"], { origin });
  const page = await context.newPage();
  page.setDefaultTimeout(120_000); // the machine may be busy with other tests
  const requests: string[] = [], errors: string[] = [];
  page.on("request", (request: { url(): string }) => requests.push(request.url()));
  page.on("pageerror", (error: Error) => errors.push(String(error.stack)));
  if (before) await page.addInitScript(before);
  await page.goto(`${origin}/${fragment === undefined ? "" : `#${fragment}`}`);
  return {
    page,
    origin,
    requests,
    errors,
    async [Symbol.asyncDispose]() {
      await context.close();
      await studio?.[Symbol.asyncDispose]();
      await host?.shutdown();
    },
  };
}

function staticHost(files: PageFiles): Deno.HttpServer<Deno.NetAddr> {
  const types: Record<string, string> = { html: "text/html", js: "text/javascript", css: "text/css" };
  return Deno.serve({ hostname: "127.0.0.1", port: 0, onListen: () => {} }, ({ url }) => {
    const path = new URL(url).pathname.slice(1) || "index.html";
    const content = files.get(path);
    const type = types[path.split(".").at(-1)!] ?? "application/octet-stream";
    return content ? new Response(content, { headers: { "content-type": type } }) : new Response(null, { status: 404 });
  });
}

/** Waits until the status matches. */
export async function status(page: Page, pattern: RegExp, timeout = 120_000): Promise<string> {
  const matches = (source: string) =>
    new RegExp(source).test(document.querySelector("[role=status]")?.textContent ?? "");
  await page.waitForFunction(matches, pattern.source, { timeout });
  return await page.getByRole("status").innerText();
}

/** The predicted change of a prompt, from 0 to 1. */
export async function meter(page: Page, prompt: string): Promise<number> {
  const meter = page.getByRole("meter", { name: `Predicted change of ${prompt}`, exact: true });
  return Number(await meter.getAttribute("aria-valuenow"));
}

/** Shares of clearly red and clearly blue pixels of a picture. */
export async function colors(page: Page, label: string): Promise<{ red: number; blue: number; mean: number[] }> {
  return await page.getByRole("img", { name: label, exact: true }).evaluate((canvas: HTMLCanvasElement) => {
    const { data } = canvas.getContext("2d")!.getImageData(0, 0, canvas.width, canvas.height);
    let red = 0, blue = 0;
    const mean = [0, 0, 0];
    for (let i = 0; i < data.length; i += 4) {
      const [r, g, b] = data.subarray(i, i + 3);
      if (r > 120 && r > 1.8 * g && r > 1.8 * b) red++;
      if (b > 120 && b > 1.5 * r && b > 1.5 * g) blue++;
      for (let c = 0; c < 3; c++) mean[c] += data[i + c];
    }
    const count = data.length / 4;
    return { red: red / count, blue: blue / count, mean: mean.map((sum) => sum / count) };
  });
}

/** Drops a file on the page. */
export async function drop(page: Page, name: string, bytes: Uint8Array): Promise<void> {
  await page.evaluate(({ name, bytes }: { name: string; bytes: number[] }) => {
    const transfer = new DataTransfer();
    transfer.items.add(new File([new Uint8Array(bytes)], name));
    for (const type of ["dragover", "drop"]) {
      document.body.dispatchEvent(new DragEvent(type, { dataTransfer: transfer, bubbles: true, cancelable: true }));
    }
  }, { name, bytes: [...bytes] });
}

/** Presses a button and returns the file that it saves. */
export async function saved(page: Page, press: () => Promise<void>): Promise<{ name: string; bytes: Uint8Array }> {
  const [download] = await Promise.all([page.waitForEvent("download"), press()]);
  return { name: download.suggestedFilename(), bytes: await Deno.readFile(await download.path()) };
}
