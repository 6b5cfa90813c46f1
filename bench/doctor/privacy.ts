/** Places that say who uses a machine, by the text that replaces them. */
export interface PersonalPlaces {
  /** Environment variables that name folders. */
  readonly variables: Readonly<Record<string, string | undefined>>;
  /** The folder of this program as URLs have it, with a slash at its end. */
  readonly program: string;
}

/** The variables whose values may occur in messages. The more specific come first. */
export const pathVariables = [
  ...["BLUEROSE_TILES", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME", "DENO_DIR", "XDG_CACHE_HOME"],
  ...["HOME", "USERPROFILE"],
] as const;

/** Home folders by their usual form, for messages that name another user's. */
const homes = /(?:\/home|\/Users|[A-Za-z]:\\+Users)[/\\]+[^/\\\s"':;,)\]]+/g;

/**
 * Other absolute paths of at least one folder, save those that a system has for all. Programs and
 * caches lie anywhere, and the variables that say where may not be readable.
 */
const elsewhere = [
  /(?<=file:\/\/|[^\w.~$*/\\-]|^)\/(?!(?:usr|etc|proc|sys|dev|lib|lib64|opt|nix|Library|System)\/)(?:[^/\s"'`:;,)\]]+\/)+[^/\s"'`:;,)\]]*/g,
  /(?<!\w)[A-Za-z]:[\\/]+(?!Windows\b|Program Files)(?:[^\\/\s"'`:;,)\]]+[\\/]+)+[^\\/\s"'`:;,)\]]*/g,
];

/** What is left of a path: the name of its file, which messages are about. */
function hiddenPath(path: string): string {
  const [file = ""] = /[^\\/]+\.\w+$/.exec(path) ?? [];
  return `…/${file}`;
}

/** A text with the paths of a person's machine replaced by what they stand for. */
export function withoutPersonalPaths(text: string, { variables, program }: PersonalPlaces): string {
  let hidden = text;
  for (const [name, path] of Object.entries(variables)) {
    // "/" or "C:\" would occur everywhere, and tells nothing
    if (path !== undefined && path.length > 3) hidden = hidden.replaceAll(path, `$${name}`);
  }
  for (const folder of new Set([program, decodeURIComponent(program)])) {
    hidden = hidden.replaceAll(`file://${folder}`, "").replaceAll(folder, "");
  }
  hidden = hidden.replace(homes, "~");
  return elsewhere.reduce((text, pattern) => text.replace(pattern, hiddenPath), hidden);
}

/** The same for every text of a value made of arrays, plain objects and texts. */
export function valueWithoutPersonalPaths<T>(value: T, places: PersonalPlaces): T {
  const visit = (each: unknown): unknown => {
    if (typeof each === "string") return withoutPersonalPaths(each, places);
    if (Array.isArray(each)) return each.map(visit);
    if (typeof each !== "object" || each === null) return each;
    return Object.fromEntries(
      Object.entries(each).map(([key, inner]) => [withoutPersonalPaths(key, places), visit(inner)]),
    );
  };
  return visit(value) as T;
}
