/** Places that say who uses a machine, by the text that replaces them. */
export interface PersonalPlaces {
  /** Environment variables that name folders. */
  readonly variables: Readonly<Record<string, string | undefined>>;
  /** The folder of this program as URLs have it, with a slash at its end. */
  readonly program: string;
}

/** The variables whose values may occur in messages. The more specific come first. */
export const pathVariables = [
  ...["BLUEROSE_TILES", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME"],
  ...["HOME", "USERPROFILE"],
] as const;

/** A character of the name of a file or folder, where a message does not end the path. */
const inName = String.raw`[^\\/\s"'\x60:;,()[\]]`;
/** A folder with what separates it from the next. Its name may hold one space: `Ann Lee/`. */
const folder = String.raw`${inName}+(?: ${inName}+)?[\\/]+`;
/** The end of a path, save the period of its sentence. */
const end = String.raw`(?:${inName}*(?<!\.))?`;
/** A drive of Windows, and not the last letter of a URL's scheme. */
const drive = String.raw`(?<![\p{L}\p{N}_])[A-Za-z]:[\\/]+`;

/** Home folders by their usual form, for messages that name another user's. */
const homes = new RegExp(
  String.raw`(?:${drive}Users[\\/]+|/(?:home|Users)/+)(?:${inName}+ ${inName}+(?=[\\/])|${inName}+(?<!\.))`,
  "gu",
);

/**
 * Other absolute paths of at least one folder, save those that a system has for all. Programs and
 * caches lie anywhere, and the variables that say where may not be readable.
 */
const elsewhere = [
  String.raw`(?<=file://|[^\p{L}\p{N}_.~$*/\\-]|^)/(?!(?:usr|etc|proc|sys|dev|lib|lib64|opt|nix|Library|System)/)`,
  String.raw`${drive}(?!Windows\b|Program Files)`,
  String.raw`(?<![\p{L}\p{N}_\\])\\{2,}(?![?.]\\)`, // a share: \\server\folder
].map((start) => new RegExp(`${start}(?:${folder})+${end}`, "gu"));

/** What is left of a path: the name of its file, which messages are about. */
function hiddenPath(path: string): string {
  const [file = ""] = /[^\\/]+\.\w+$/.exec(path) ?? [];
  return `…/${file}`;
}

/**
 * A pattern of the folder or file that a variable names, where its name does not go on. Undefined
 * for what is no path: "/", or a name alone, which may be any word of a message.
 */
function pathPattern(value: string | undefined): RegExp | undefined {
  const path = value?.replace(/[\\/]+$/, "") ?? "";
  if (path.length < 3 || !/[\\/]/.test(path)) return undefined;
  // Messages may quote a path as JSON, which doubles backslashes.
  const names = path.split(/[\\/]+/).map((name) => RegExp.escape(name)).join(String.raw`[\\/]+`);
  return new RegExp(String.raw`(?<![\p{L}\p{N}_])${names}(?![\p{L}\p{N}_-]|\.[\p{L}\p{N}_])`, "gu");
}

/** A text with the paths of a person's machine replaced by what they stand for. */
export function withoutPersonalPaths(text: string, { variables, program }: PersonalPlaces): string {
  let hidden = text;
  for (const [name, value] of Object.entries(variables)) {
    const pattern = pathPattern(value);
    if (pattern) hidden = hidden.replace(pattern, () => `$${name}`);
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
