/**
 * The strict type check for browsers, `deno task check:browser`. It checks all modules that must
 * run in a browser with `lib: esnext, dom` and the standard's WebGPU types instead of Deno's, so
 * that neither `Deno` nor a native-only WebGPU name is used. Modules that work on disk may use
 * `Deno`.
 *
 * `check.ts [ROOT]` checks the tree at ROOT (default: this repository).
 *
 * @module
 */
import { browserFolders, denoParts, mayNameDeno, typescriptFiles } from "../boundaries.ts";
import { runDeno } from "../run_deno.ts";

const repository = new URL("../../", import.meta.url);
const root = Deno.args[0] === undefined ? repository : new URL(`file://${await Deno.realPath(Deno.args[0])}/`);

const files = (await Promise.all(browserFolders.map((folder) => typescriptFiles(root, folder)))).flat()
  .filter((path) => !denoParts.some((part) => path.startsWith(part)));
if (files.length === 0) {
  console.error(`Cannot check ${root.pathname} as it holds none of ${browserFolders.join(", ")} with TypeScript in it`);
  Deno.exit(1);
}

// The same packages as deno.json, with the types of a browser.
const config = JSON.parse(await Deno.readTextFile(new URL("deno.json", repository)));
const folder = await Deno.makeTempDir();
const configPath = `${folder}/deno.json`;
// Packages bring Node's types, whose timers conflict with the browser's. This resolves the
// conflict.
await Deno.writeTextFile(
  `${folder}/timers.d.ts`,
  "declare function clearTimeout(timer: ReturnType<typeof setTimeout> | undefined): void;",
);
await Deno.writeTextFile(
  configPath,
  JSON.stringify({
    imports: config.imports,
    lock: false,
    compilerOptions: {
      ...config.compilerOptions,
      lib: ["esnext", "dom"],
      types: [config.imports["@webgpu/types"], "./timers.d.ts"],
    },
  }),
);
const { success, err } = await runDeno(["check", "--quiet", "--config", configPath, ...files], { cwd: root });
await Deno.remove(folder, { recursive: true });

const errors = success ? [] : splitDiagnostics(err).filter((diagnostic) => !isAllowedDeno(diagnostic));
if (errors.length > 0) {
  console.error(errors.join("\n\n"));
  console.error(
    `\nErrors in what must run in a browser (lib esnext and dom, @webgpu/types, no Deno): ${errors.length}`,
  );
  Deno.exit(1);
}
console.log(`${files.length} files run in a browser as they are, as far as types can tell`);

/**
 * One string per diagnostic. Other output, such as a missing module, is one string too, so that the
 * check fails.
 */
function splitDiagnostics(text: string): string[] {
  const diagnostics = text.split(/^(?=TS\d+ \[ERROR\])/m)
    .map((part) => part.replace(/\n+(Found \d+ errors?\.|error: Type checking failed\.)[\s\S]*$/, "").trim())
    .filter((part) => part !== "");
  return diagnostics.length > 0 ? diagnostics : [text.trim() || "deno check failed and said nothing"];
}

/**
 * Diagnostics about an unknown `Deno` and the implicit `any` that follows. `deno check` covers
 * these with Deno's types.
 */
function isAllowedDeno(diagnostic: string): boolean {
  if (!/^TS(2304|2503|2552) .*'Deno'|^TS7\d{3} /.test(diagnostic)) return false;
  return mayNameDeno.some((path) => diagnostic.includes(`at ${new URL(path, root).href}:`));
}
