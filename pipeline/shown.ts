import { escapeJsonControls } from "./safe_text.ts";

/**
 * A value for a message: its JSON, cut after `most` characters. Values of strangers' files can be
 * long, or nested deeper than `JSON.stringify` reaches.
 */
export function shown(value: unknown, most = 60): string {
  const text = typeof value === "string" ? value.slice(0, most + 1) : value; // never quotes megabytes
  const json = jsonOf(text);
  return json.length > most ? `${json.slice(0, most)}…` : json;
}

function jsonOf(value: unknown): string {
  if (typeof value === "number" || typeof value === "bigint") return String(value);
  try {
    return escapeJsonControls(JSON.stringify(value) ?? String(value));
  } catch {
    return Array.isArray(value) ? "a nested list" : `a value of type ${typeof value}`;
  }
}
