/** The first line of an error message: messages of peers can be pages long. */
export function firstLine(error: unknown): string {
  const text = error instanceof Error ? error.message : String(error);
  const line = text.split("\n").find((each) => each.trim() !== "")?.trim() ?? "failed";
  return line.length > 160 ? `${line.slice(0, 157)}…` : line;
}
