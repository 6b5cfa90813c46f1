/**
 * Tables in CSV files.
 *
 * @module
 */
import { parse } from "@std/csv/parse";

/** A CSV file with column names in its first line. */
export interface CsvTable {
  readonly columns: readonly string[];
  /** One record per further line: cells by column name. */
  readonly records: readonly ReadonlyMap<string, string>[];
}

/**
 * Parses CSV. Accepts a byte order mark, skips empty lines and trims column names and cells.
 *
 * @throws {SyntaxError} when quotes do not match, a column stands twice, or a line has more or
 *   fewer cells than the first
 */
export function parseCsv(text: string): CsvTable {
  const lines: string[][] = parse(text.replace(/^\uFEFF/, ""), { trimLeadingSpace: true, fieldsPerRecord: 0 });
  const [columns = [], ...records] = lines.map((cells) => cells.map((cell) => cell.trim()));
  const named = new Set<string>();
  for (const name of columns) {
    if (name !== "" && named.has(name)) throw new SyntaxError(`the column ${JSON.stringify(name)} stands twice`);
    named.add(name);
  }
  return { columns, records: records.map((cells) => new Map(columns.map((name, i) => [name, cells[i]]))) };
}
