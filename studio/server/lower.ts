/** Scripts for browsers that do not know `using` yet. @module */

import { BundleError } from "./bundle.ts";
import type { PageFiles } from "./files.ts";

/** What the scripts may use at most. Safari 26 is the oldest Safari with WebGPU. */
const target = ["chrome135", "firefox141", "safari26", "es2022"];

/**
 * The compiler. It is not in deno.json, and who imports it runs with --no-lock: everybody installs
 * what deno.lock names.
 */
const compiler = "npm:esbuild-wasm@0.25.5";
const [script, binary] = [`${compiler}/esm/browser.js`, `${compiler}/esbuild.wasm`];

/** What is loaded before each other script: `using` needs it where it is lowered. */
const disposal = "disposal.js";

/** The part of esbuild that is used here. */
interface Esbuild {
  initialize(options: { wasmModule: WebAssembly.Module; worker: boolean }): Promise<void>;
  transform(code: string, options: Record<string, unknown>): Promise<{ code: string }>;
}

/**
 * The files with their scripts lowered: no `using`, and `DisposableStack` where the browser has
 * none.
 *
 * @throws {BundleError} where the compiler cannot be loaded, or refuses a script
 */
export async function lowered(files: PageFiles): Promise<PageFiles> {
  const { transform } = await loadCompiler();
  const result = new Map(files);
  for (const [path, content] of files) {
    if (!path.endsWith(".js")) continue;
    const banner = path === disposal ? "" : `import"./${disposal}";`;
    const options = { target, format: "esm", minify: true, banner };
    try {
      const { code } = await transform(new TextDecoder().decode(content), options);
      result.set(path, new TextEncoder().encode(code));
    } catch (cause) {
      throw new BundleError(`Cannot compile ${path} for older browsers: ${messageOf(cause)}`, { cause });
    }
  }
  return result;
}

async function loadCompiler(): Promise<Esbuild> {
  try {
    const esbuild: Esbuild = await import(script);
    const code = await Deno.readFile(new URL(import.meta.resolve(binary)));
    loading ??= esbuild.initialize({ wasmModule: await WebAssembly.compile(code), worker: false });
    await loading;
    return esbuild;
  } catch (cause) {
    throw new BundleError(`Cannot load the compiler ${compiler}, which the build needs once: ${messageOf(cause)}`, {
      cause,
    });
  }
}

/** esbuild starts once in a process. */
let loading: Promise<void> | undefined;

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
