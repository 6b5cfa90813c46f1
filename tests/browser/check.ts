/**
 * The strict second type check, `deno task check:browser`: everything that claims to run in a
 * browser is checked under `lib: esnext, dom` with the standard's own WebGPU types and without
 * Deno's, so that neither `Deno` nor a native-only WebGPU name slips in. Files that work on disk
 * may name `Deno`, and nothing else that a browser lacks.
 *
 * `check.ts [ROOT]` checks the tree at ROOT (default: this repository).
 *
 * @module
 */
import { browserFolders, mayNameDeno, typescriptFiles } from "../boundaries.ts";

const repository = new URL("../../", import.meta.url);
const root = Deno.args[0] === undefined ? repository : new URL(`file://${await Deno.realPath(Deno.args[0])}/`);

const files = (await Promise.all(browserFolders.map((folder) => typescriptFiles(root, folder)))).flat();
if (files.length === 0) {
  console.error(`Cannot check ${root.pathname} as it holds none of ${browserFolders.join(", ")} with TypeScript in it`);
  Deno.exit(1);
}

// The packages stay those of deno.json; only the world around the code is another.
const config = JSON.parse(await Deno.readTextFile(new URL("deno.json", repository)));
const folder = await Deno.makeTempDir();
const configPath = `${folder}/deno.json`;
// Packages bring Node's types along, whose timers then mix with the browser's; this sets the one
// clash right.
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
const { success, stderr } = await new Deno.Command(Deno.execPath(), {
  args: ["check", "--quiet", "--config", configPath, ...files],
  cwd: root,
  env: { NO_COLOR: "1" },
  stdout: "null",
  stderr: "piped",
}).output();
await Deno.remove(folder, { recursive: true });

const report = new TextDecoder().decode(stderr);
const errors = success ? [] : splitDiagnostics(report).filter((diagnostic) => !isAllowedDeno(diagnostic));
if (errors.length > 0) {
  console.error(errors.join("\n\n"));
  console.error(
    `\nErrors in what must run in a browser (lib esnext and dom, @webgpu/types, no Deno): ${errors.length}`,
  );
  Deno.exit(1);
}
console.log(`${files.length} files run in a browser as they are, as far as types can tell`);

/**
 * One string per diagnostic; what is not a diagnostic (a missing module, say) is one string too, so
 * that it fails.
 */
function splitDiagnostics(text: string): string[] {
  const diagnostics = text.split(/^(?=TS\d+ \[ERROR\])/m)
    .map((part) => part.replace(/\n+(Found \d+ errors?\.|error: Type checking failed\.)[\s\S]*$/, "").trim())
    .filter((part) => part !== "");
  return diagnostics.length > 0 ? diagnostics : [text.trim() || "deno check failed and said nothing"];
}

/**
 * Not knowing `Deno`, and the implicit `any` that follows from it; `deno check` has judged those
 * with Deno's types.
 */
function isAllowedDeno(diagnostic: string): boolean {
  if (!/^TS(2304|2503|2552) .*'Deno'|^TS7\d{3} /.test(diagnostic)) return false;
  return mayNameDeno.some((path) => diagnostic.includes(`at ${new URL(path, root).href}:`));
}
