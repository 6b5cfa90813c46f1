/// <reference lib="dom" />
/** Opens the studio in Chromium, as a visitor finds it. */
import { launchChromium } from "../../../bench/measure/chromium.ts";
import { serveStudio } from "../../../studio/server/serve.ts";
import { type PageFiles, typeOf } from "../../../studio/server/files.ts";

/** The checks of accessibility. In deno.json, everybody would have to install them. */
export const axe = "npm:axe-core@4.14.1";

// deno-lint-ignore no-explicit-any -- the driver's types come with the driver
export type Page = any;

/** A page of the studio, and what it did. */
export interface Visit extends AsyncDisposable {
  readonly page: Page;
  readonly origin: string;
  /** Addresses of all requests. */
  readonly requests: string[];
  /** Errors that the page did not catch, and what its console calls an error. */
  readonly errors: string[];
  /** Bytes of the files that the static host has sent. */
  sentBytes(): number;
}

/** Starts a browser. */
export async function openBrowser(): Promise<AsyncDisposable & { visit(options?: VisitOptions): Promise<Visit> }> {
  const browser = await launchChromium();
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
  const origin = new URL(studio?.address ?? host!.address).origin;
  const context = await browser.newContext({ viewport: { width: 1440, height: 900 }, colorScheme: "light" });
  await context.grantPermissions(["clipboard-read", "clipboard-write"], { origin });
  const page = await context.newPage();
  page.setDefaultTimeout(120_000); // the machine may be busy with other tests
  const requests: string[] = [], errors: string[] = [];
  page.on("request", (request: { url(): string }) => requests.push(request.url()));
  page.on("pageerror", (error: Error) => errors.push(String(error.stack)));
  // Among them is each response of 400 and above.
  page.on("console", (message: Page) => message.type() === "error" && errors.push(message.text()));
  if (before) await page.addInitScript(before);
  await page.goto(`${origin}${isStatic ? base : "/"}${fragment === undefined ? "" : `#${fragment}`}`);
  return {
    page,
    origin,
    requests,
    errors,
    sentBytes: () => host?.sentBytes() ?? 0,
    async [Symbol.asyncDispose]() {
      await context.close();
      await studio?.[Symbol.asyncDispose]();
      await host?.[Symbol.asyncDispose]();
    },
  };
}

interface StaticHost extends AsyncDisposable {
  readonly address: string;
  sentBytes(): number;
}

/** Where the static host has the files. */
export const base = "/some/where/";

/** A host of files below {@linkcode base}, without ranges or compression. */
function staticHost(files: PageFiles): StaticHost {
  let sent = 0;
  const server = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen: () => {} }, ({ url }) => {
    const { pathname } = new URL(url);
    const path = pathname.slice(base.length) || "index.html";
    const content = pathname.startsWith(base) ? files.get(path) : undefined;
    sent += content?.length ?? 0;
    return new Response(content ?? null, {
      status: content ? 200 : 404,
      headers: { "content-type": typeOf(path) },
    });
  });
  return {
    address: `http://127.0.0.1:${server.addr.port}/`,
    sentBytes: () => sent,
    [Symbol.asyncDispose]: () => server.shutdown(),
  };
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

/** Drops a file or a folder of this machine on the page, as a visitor does. */
export async function dropPath(page: Page, path: string): Promise<void> {
  const session = await page.context().newCDPSession(page);
  const data = { items: [], files: [path], dragOperationsMask: 1 };
  for (const type of ["dragEnter", "dragOver", "drop"]) {
    await session.send("Input.dispatchDragEvent", { type, x: 400, y: 300, data });
  }
  await session.detach();
}

interface TraceEvent {
  readonly name: string;
  readonly ph: string;
  readonly pid: number;
  readonly tid: number;
  readonly args: { readonly name?: string };
  /** Duration in µs, and how much of it the thread ran on a processor. */
  readonly dur?: number;
  readonly tdur?: number;
}

/**
 * The longest task of the page's main thread while `body` runs: the time that it ran on a
 * processor, which does not depend on what else the machine does, and the time by the clock.
 */
export async function longestTask(page: Page, body: () => Promise<void>): Promise<{ ms: number; clockMs: number }> {
  const browser = page.context().browser();
  await browser.startTracing(page, { categories: ["disabled-by-default-devtools.timeline"] });
  await body();
  const trace = JSON.parse(new TextDecoder().decode(await browser.stopTracing()));
  const events: TraceEvent[] = trace.traceEvents;
  const threadOf = ({ pid, tid }: TraceEvent) => `${pid} ${tid}`;
  const isMain = ({ name, args }: TraceEvent) => name === "thread_name" && args.name === "CrRendererMain";
  const mains = new Set(events.filter(isMain).map(threadOf));
  const tasks = events.filter((event) => event.ph === "X" && event.name === "RunTask" && mains.has(threadOf(event)));
  const longest = (times: readonly (number | undefined)[]) => Math.max(...times.map((time = 0) => time / 1000));
  return { ms: longest(tasks.map(({ tdur }) => tdur)), clockMs: longest(tasks.map(({ dur }) => dur)) };
}

/** Presses a button and returns the file that it saves. */
export async function saved(page: Page, press: () => Promise<void>): Promise<{ name: string; bytes: Uint8Array }> {
  const [download] = await Promise.all([page.waitForEvent("download"), press()]);
  return { name: download.suggestedFilename(), bytes: await Deno.readFile(await download.path()) };
}
