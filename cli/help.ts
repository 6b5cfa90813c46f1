/**
 * The text of the help, wrapped to the terminal.
 *
 * @module
 */
import { aliasesOf, dashed, type Flag, type Flags, kebab, placeholderOf } from "./flag_types.ts";
import { terminalWidth, wrap } from "./terminal.ts";

/** Widest column of flag names; longer names stand on a line of their own. */
const widestColumn = 30;

/** The help of flags: two columns, grouped by heading. */
export function helpOfFlags(flags: Flags, width: number = terminalWidth()): string {
  const rows = Object.entries(flags).map(([name, flag]) => {
    const letters = aliasesOf(flag).filter((alias) => alias.length === 1).map(dashed);
    const longer = aliasesOf(flag).filter((alias) => alias.length > 1).map(dashed);
    const value = flag.kind === "switch" ? "" : ` ${placeholderOf(flag)}`;
    return {
      group: flag.group ?? "Flags",
      left: `${[...letters, `--${kebab(name)}`, ...longer].join(", ")}${value}`,
      right: flag.help + remarks(name, flag),
    };
  });
  return [...Map.groupBy(rows, ({ group }) => group)]
    .map(([group, members]) => `${group}:\n${twoColumns(members.map(({ left, right }) => [left, right]), width)}`)
    .join("\n\n");
}

/** Rows of a name and its explanation, which is wrapped beside the name. */
export function twoColumns(rows: readonly (readonly [left: string, right: string])[], width: number): string {
  const widest = Math.min(widestColumn, Math.floor(width / 3));
  const fitting = rows.map(([left]) => left.length).filter((length) => length <= widest);
  const column = Math.max(4, ...fitting);
  const indent = " ".repeat(column + 4);
  return rows.map(([left, right]) => {
    const lines = wrap(right, Math.max(20, width - indent.length));
    const first = left.length <= column
      ? `  ${left.padEnd(column)}  ${lines[0] ?? ""}`
      : [`  ${left}`, ...(lines.length > 0 ? [indent + lines[0]] : [])].join("\n");
    return [first.trimEnd(), ...lines.slice(1).map((line) => indent + line)].join("\n");
  }).join("\n");
}

/** The end of a flag's help: whether it is required or repeatable, and its default. */
function remarks(name: string, flag: Flag): string {
  const parts: string[] = [];
  if ("required" in flag && flag.required) parts.push("required");
  const shown = flag.defaultText ?? defaultText(name, flag);
  if (shown !== undefined) parts.push(`default: ${shown}`);
  if (flag.kind === "texts" && !flag.many) parts.push("repeatable");
  return parts.length === 0 ? "" : ` (${parts.join("; ")})`;
}

/** A default as the user would write or understand it; undefined where there is none to show. */
function defaultText(name: string, flag: Flag): string | undefined {
  if (flag.kind === "switch") return flag.default ? `on; --no-${kebab(name)} turns it off` : undefined;
  if (flag.kind === "pair" || flag.default === undefined || flag.default === "") return undefined;
  if (flag.kind === "texts") return flag.default.length === 0 ? undefined : flag.default.join(", ");
  return String(flag.default);
}
