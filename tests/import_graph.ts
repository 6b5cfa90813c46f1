/**
 * Which file imports which, read from the sources' text; and the cycles among them.
 *
 * @module
 */

/** One import or re-export. */
export interface Import {
  readonly specifier: string;
  /** Whether it is erased when the file is compiled: `import type`, or only `type` names. */
  readonly typeOnly: boolean;
}

/** For each file, the files that it imports. Paths are relative to the repository. */
export type ImportGraph = ReadonlyMap<string, readonly string[]>;

/** The source without its comments. Line comments must be preceded by white space. */
export function withoutComments(source: string): string {
  return source.replace(/^\s*\/\*[\s\S]*?\*\//gm, "").replace(/(^|\s)\/\/.*$/gm, "$1");
}

/** What `source` imports or re-exports from: statically, dynamically or as types. */
export function importsOf(source: string): Import[] {
  const code = withoutComments(source);
  const imports: Import[] = [];
  const named = /^\s*(?:import|export)\b(\s+type\b(?!\s+from\b))?([\w\s{},*$]*?)\bfrom\s*["']([^"']+)["']/gm;
  for (const [, type, names, specifier] of code.matchAll(named)) {
    imports.push({ specifier, typeOnly: type !== undefined || onlyTypeNames(names) });
  }
  for (const [, specifier] of code.matchAll(/^\s*import\s*["']([^"']+)["']/gm)) {
    imports.push({ specifier, typeOnly: false });
  }
  // `await import("./a.ts")` loads a module; `import("./a.ts").A` names a type of it.
  for (const [, awaited, specifier] of code.matchAll(/\b(await\s+)?import\(\s*["'`]([^"'`]+)["'`]/g)) {
    imports.push({ specifier, typeOnly: awaited === undefined });
  }
  return imports;
}

/** Whether a clause such as `{ type A, type B }` holds nothing but types. */
function onlyTypeNames(clause: string): boolean {
  const braces = clause.match(/^\s*\{([^}]*)\}\s*$/);
  if (!braces) return false;
  const names = braces[1].split(",").map((name) => name.trim()).filter((name) => name !== "");
  return names.length > 0 && names.every((name) => name.startsWith("type "));
}

/** The path that a relative specifier in the file at `path` names. */
export function resolveImport(path: string, specifier: string): string {
  return new URL(specifier, new URL(path, "file:///")).pathname.slice(1);
}

/** The graph of the relative imports of `sources`, by path; without type-only ones on request. */
export function importGraph(
  sources: ReadonlyMap<string, string>,
  { valuesOnly = false }: { valuesOnly?: boolean } = {},
): ImportGraph {
  return new Map([...sources].map(([path, source]) => {
    const targets = importsOf(source)
      .filter(({ specifier, typeOnly }) => specifier.startsWith(".") && !(valuesOnly && typeOnly))
      .map(({ specifier }) => resolveImport(path, specifier));
    return [path, [...new Set(targets)].filter((target) => sources.has(target))];
  }));
}

/**
 * The cycles that a depth-first search meets, each as "a → b → a". Empty if and only if the graph
 * has none; not every cycle of a graph with many is listed.
 */
export function cyclesOf(graph: ImportGraph): string[] {
  const cycles: string[] = [];
  const finished = new Set<string>();
  const visit = (path: string, trail: readonly string[]): void => {
    const start = trail.indexOf(path);
    if (start >= 0) {
      cycles.push([...trail.slice(start), path].join(" → "));
      return;
    }
    if (finished.has(path)) return;
    for (const target of graph.get(path) ?? []) visit(target, [...trail, path]);
    finished.add(path);
  };
  for (const path of graph.keys()) visit(path, []);
  return cycles;
}

/** The numbers of lines that are comments longer than `columns`. Lines with a URL are excepted. */
export function longCommentLines(source: string, columns: number): number[] {
  return source.split("\n").flatMap((line, index) => {
    const isComment = /^\s*(\/\/|\/\*|\*)/.test(line);
    return isComment && [...line].length > columns && !/https?:\/\//.test(line) ? [index + 1] : [];
  });
}
