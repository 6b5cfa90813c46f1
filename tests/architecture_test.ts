import { assert, assertEquals } from "@std/assert";
import {
  boundaries,
  type Boundary,
  browserFolders,
  denoParts,
  isForDeno,
  mayNameDeno,
  typescriptFiles,
} from "./boundaries.ts";
import { cyclesOf, importGraph, importsOf, longCommentLines, resolveImport, withoutComments } from "./import_graph.ts";

const root = new URL("../", import.meta.url);
const { imports: importMap, exports } = JSON.parse(await Deno.readTextFile(new URL("deno.json", root)));
const packages = Object.keys(importMap as Record<string, string>);

Deno.test("imports run one way: engine ← kernels ← layers ← models ← pipelines ← cli", async () => {
  const violations: string[] = [];
  const files = await readAll(await productFiles());
  for (const [path, source] of files) violations.push(...importViolations(path, source));
  assert(files.size > 0, "Cannot judge imports as no source file was found");
  assertEquals(violations, []);
});

Deno.test("only byte sources, outputs, the hub cache, the studio's server and cli/ name Deno", async () => {
  const violations: string[] = [];
  for (const path of await sources()) {
    if (!isForDeno(path) && namesDeno(await read(path))) violations.push(path);
  }
  assertEquals(violations, []);
});

Deno.test("only pipeline/output/ changes the disk", async () => {
  const changing =
    /\bDeno\.(writeFile|writeTextFile|create|mkdir|rename|remove|truncate|symlink|link|copyFile|chmod)(Sync)?\(/;
  const violations: string[] = [];
  for (const [path, source] of await readAll(await productFiles())) {
    if (path.startsWith("pipeline/output/") || path.startsWith("bench/measure/")) continue;
    if (changing.test(withoutComments(source))) violations.push(path);
  }
  assertEquals(violations, []);
});

Deno.test("each package that deno.json declares is used", async () => {
  const folders = [...browserFolders, "bench", "cli", "examples", "tests"];
  const files = (await Promise.all(folders.map((folder) => typescriptFiles(root, folder)))).flat();
  const texts = [...(await readAll(files)).values()].join("\n");
  const unused = packages.filter((name) =>
    !texts.includes(`"${name}"`) && !texts.includes(`"${name.replace(/\/$/, "")}/`)
  );
  assertEquals(unused, []);
});

Deno.test("no cycle of imports between files, neither of values nor with types", async () => {
  const files = await readAll(await productFiles());
  assertEquals(cyclesOf(importGraph(files, { valuesOnly: true })), [], "cycles of values");
  assertEquals(cyclesOf(importGraph(files)), [], "cycles through type-only imports");
});

Deno.test("no comment line is longer than 100 columns", async () => {
  const tests = (await Promise.all(["tests", "examples"].map((folder) => typescriptFiles(root, folder)))).flat();
  const long: string[] = [];
  for (const [path, source] of await readAll([...await productFiles(), ...tests])) {
    for (const line of longCommentLines(source, 100)) long.push(`${path}:${line}`);
  }
  assertEquals(long, []);
});

Deno.test("no test changes the environment or the working folder, which files that run beside it share", async () => {
  const violations: string[] = [];
  for (const [path, source] of await readAll(await typescriptFiles(root, "tests"))) {
    if (path.startsWith("tests/dawn/")) continue; // runs alone, and sets what its driver reads
    if (/\bDeno\.(env\.(set|delete)|chdir|umask)\(/.test(withoutComments(source))) violations.push(path);
  }
  assertEquals(violations, []);
});

Deno.test("only engine/ and the policy decide by a device's class", async () => {
  const violations: string[] = [];
  for (const [path, source] of await readAll(await sources())) {
    if (path.startsWith("engine/") || path.startsWith("kernels/policy")) continue;
    if (/\bdeviceClass\b/.test(withoutComments(source))) violations.push(path);
  }
  assertEquals(violations, []);
});

Deno.test("no kernel on a spread() grid, nor one in an example, takes global_invocation_id for its index", async () => {
  const documents = ["README.md", "CONTRIBUTING.md", "docs/library.md"];
  const violations: string[] = [];
  for (const [path, source] of await readAll([...await productFiles(), "examples/custom_kernel.ts", ...documents])) {
    for (const declaration of source.split(/declareKernel(?:<[^>]*>)?\(\{/).slice(1)) {
      const grid = /\bgrid:[^]*?\bcost:/.exec(declaration);
      if (!grid || !/\bspread\(/.test(grid[0])) continue;
      if (declaration.slice(0, grid.index).includes("global_invocation_id")) violations.push(path);
    }
  }
  assertEquals(violations, []);
});

Deno.test("every file that may name Deno lies in a folder that is checked for it", () => {
  for (const path of mayNameDeno) assert(browserFolders.some((folder) => path.startsWith(`${folder}/`)), path);
});

Deno.test("importsOf() finds every form of import, tells types from values, and skips comments", () => {
  const values = [
    'import a from "./a.ts";',
    "import {",
    "  c, // why",
    "  type D as E,",
    "} from './b.ts';",
    'import * as f from "./c.ts";',
    'export * from "./d.ts";',
    'export * as i from "./e.ts";',
    'import "./f.ts";',
    'import data from "./g.json" with { type: "json" };',
    'const l = await import("./h.ts");',
    'import { typeOf } from "./i.ts";',
    'import type from "./j.ts";',
  ];
  const types = [
    'import type { B } from "./k.ts";',
    'export type { H } from "./l.ts";',
    'type M = import("./m.ts").M;',
    'import { type N, type O as P } from "./n.ts";',
  ];
  const none = [
    "/**",
    ' * import { no } from "./comment.ts";',
    " */",
    '// import { no } from "./line.ts";',
    'export const n = { from: "./not_an_import.ts" };',
    'export function from(): string { return "https://example.org/from.ts"; }',
  ];
  const found = importsOf([...values, ...types, ...none].join("\n"));
  const specifiers = (typeOnly: boolean) =>
    found.filter((one) => one.typeOnly === typeOnly).map(({ specifier }) => specifier[2]).sort().join("");
  assertEquals(specifiers(false), "abcdefghij");
  assertEquals(specifiers(true), "klmn");
});

Deno.test("cyclesOf() gives the path of a cycle, and importGraph() leaves types out on request", () => {
  const sources = new Map([
    ["a/a.ts", 'import { b } from "./b.ts"; export const a = b;'],
    ["a/b.ts", 'import { c } from "../c.ts"; export const b = c;'],
    ["c.ts", 'import type { A } from "./a/a.ts"; export const c = 1;'],
    ["d.ts", 'import { a } from "./a/a.ts"; import { b } from "./a/b.ts";'],
  ]);
  assertEquals(cyclesOf(importGraph(sources)), ["a/a.ts → a/b.ts → c.ts → a/a.ts"]);
  assertEquals(cyclesOf(importGraph(sources, { valuesOnly: true })), []);
  assertEquals(cyclesOf(new Map([["a.ts", ["a.ts"]]])), ["a.ts → a.ts"]);
});

Deno.test("longCommentLines() counts columns of comments, not of code or of lines with a URL", () => {
  const text = "x".repeat(20);
  const source = [`// ${text}`, `  * ${text}`, `f("${text}");`, `// https://example.org/${text}`, "// short"].join(
    "\n",
  );
  assertEquals(longCommentLines(source, 20), [1, 2]);
});

Deno.test("importViolations() catches each wrong direction and each package that deno.json does not name", () => {
  const catches = (path: string, specifier: string): void =>
    assertEquals(importViolations(path, `import { x } from "${specifier}";`).length, 1, `${path} → ${specifier}`);
  const allows = (path: string, specifier: string): void =>
    assertEquals(importViolations(path, `export { x } from "${specifier}";`), []);

  catches("engine/gpu.ts", "../kernels/gemm/matmul.ts");
  catches("engine/gpu.ts", "jimp");
  catches("kernels/gemm/matmul.ts", "../../pipeline/errors.ts");
  catches("kernels/gemm/matmul.ts", "../../schedulers/ddim.ts");
  catches("schedulers/ddim.ts", "../engine/tensor.ts");
  catches("pipeline/checkpoint/safetensors/writer.ts", "../../layers/linear.ts");
  catches("pipeline/text/tokenizer.ts", "../models/clip_text.ts");
  catches("pipeline/layers/attention.ts", "../models/unet.ts");
  catches("pipeline/layers/attention.ts", "../../schedulers/ddim.ts");
  catches("pipeline/models/unet.ts", "../stable_diffusion.ts");
  catches("pipeline/stable_diffusion.ts", "../cli/progress.ts");
  catches("pipeline/stable_diffusion.ts", "../tests/cpu/matmul.ts");
  catches("pipeline/image/picture.ts", "npm:jimp@1.6.1");
  catches("pipeline/image/picture.ts", "left-pad");
  catches("pipeline/image/picture.ts", "node:fs");
  catches("cli/main.ts", "https://example.org/mod.ts");
  catches("mod.ts", "./kernels/matmul.ts");
  catches("pipeline/stable_diffusion.ts", "../studio/session.ts");
  catches("studio/painter.ts", "../engine/gpu.ts");
  catches("studio/page/main.tsx", "../server/app.ts");
  catches("studio/page/store.ts", "../session.ts");
  catches("studio/page/store.ts", "../../mod.ts");
  catches("studio/session.ts", "../cli/progress.ts");

  allows("engine/gpu.ts", "./memory/pool.ts");
  allows("kernels/gemm/matmul.ts", "../engine/kernel/kernel.ts");
  allows("pipeline/layers/linear.ts", "../../kernels/gemm/matmul.ts");
  allows("pipeline/models/unet.ts", "../layers/attention.ts");
  allows("pipeline/stable_diffusion.ts", "../schedulers/ddim.ts");
  allows("pipeline/image/picture.ts", "jimp");
  allows("pipeline/image/picture.ts", "jimp/fonts");
  allows("cli/generate.ts", "@std/cli/parse-args");
  allows("mod.ts", "./pipeline/stable_diffusion.ts");
  allows("studio/page/main.tsx", "../painters/worker_painter.ts");
  allows("studio/session.ts", "../pipeline/model_editing.ts");
  allows("cli/studio.ts", "../studio/server/serve.ts");
});

Deno.test("namesDeno() sees uses, and overlooks prose", () => {
  for (
    const use of ["await Deno.open(path)", "let f: Deno.FsFile;", 'globalThis["Deno"]', "globalThis.Deno", "Deno?.env"]
  ) {
    assert(namesDeno(use), use);
  }
  for (
    const prose of ["// Deno.open fails here", "/** Deno.open */", "`Use Deno 2.9 or later. Deno needs a driver.`"]
  ) {
    assert(!namesDeno(prose), prose);
  }
});

/** The library's own files: what a browser gets, and mod.ts. */
async function sources(): Promise<string[]> {
  const files = (await Promise.all(browserFolders.map((folder) => typescriptFiles(root, folder)))).flat();
  const face = (exports["."] as string).replace("./", "");
  const exists = await Deno.stat(new URL(face, root)).then(() => true, () => false);
  return exists ? [...files, face] : files;
}

/** Every file of the product: the library, the command line and the bench. */
async function productFiles(): Promise<string[]> {
  return [...await sources(), ...await typescriptFiles(root, "bench"), ...await typescriptFiles(root, "cli")];
}

async function readAll(paths: readonly string[]): Promise<Map<string, string>> {
  return new Map(await Promise.all(paths.map(async (path) => [path, await read(path)] as const)));
}

function read(path: string): Promise<string> {
  return Deno.readTextFile(new URL(path, root));
}

function runsInDenoOnly(path: string): boolean {
  return !browserFolders.some((folder) => path.startsWith(`${folder}/`)) ||
    denoParts.some((part) => path.startsWith(part));
}

function importViolations(path: string, source: string): string[] {
  const boundary: Boundary | undefined = boundaries.find(({ part }) => path.startsWith(part));
  if (boundary === undefined) return [`${path} belongs to no part of the tree`];
  return importsOf(source).flatMap(({ specifier }) => {
    if (specifier.startsWith(".")) {
      const target = resolveImport(path, specifier);
      return boundary.from.some((part) => target.startsWith(part)) ? [] : [`${path} may not import ${target}`];
    }
    if (boundary.packages === false) return [`${path} may not import packages, yet imports ${specifier}`];
    // Deno has Node's modules built in; browsers have none.
    if (specifier.startsWith("node:") && runsInDenoOnly(path)) return [];
    const known = packages.some((name) => specifier === name || specifier.startsWith(`${name}/`));
    return known ? [] : [`${path} imports ${specifier}, which is not in deno.json's import map`];
  });
}

function namesDeno(source: string): boolean {
  return /\bDeno(\?\.|\.|\[)\w|\bglobalThis(\?\.|\.)Deno\b|["']Deno["']/.test(withoutComments(source));
}
