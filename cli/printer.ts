/**
 * All that the command line prints. Texts of strangers' files are made safe here, and secrets are
 * hidden.
 *
 * @module
 */
import { seedForJson } from "../pipeline/image/generation_text.ts";
import { escapeJsonControls } from "../pipeline/safe_text.ts";
import { inFlags } from "./option_flags.ts";
import { hideSecrets, printable } from "./terminal.ts";

/** What is printed where. */
export interface PrintMode {
  /** Standard output is one JSON document; reports go to standard error. */
  readonly json: boolean;
  /** Errors and JSON only. */
  readonly quiet: boolean;
}

const plain: PrintMode = { json: false, quiet: false };
let mode: PrintMode = plain;

/** How this process prints at present. */
export function printMode(): PrintMode {
  return mode;
}

/** Runs a command with a print mode, and restores the mode. */
export async function withPrintMode<T>(next: PrintMode, body: () => Promise<T>): Promise<T> {
  const before = mode;
  mode = next;
  try {
    return await body();
  } finally {
    mode = before;
  }
}

let clearLine: () => void = () => {};

/** Calls `clear` before each line, so that lines do not continue a bar's. Disposing ends that. */
export function clearBefore(clear: () => void): Disposable {
  clearLine = clear;
  return { [Symbol.dispose]: () => void (clearLine = () => {}) };
}

function out(text: string): void {
  clearLine();
  console.log(printable(text));
}

function err(text: string): void {
  clearLine();
  console.error(printable(text));
}

/** A line of a command's report: to standard output, or to standard error beside JSON. */
export function say(text: string): void {
  if (mode.quiet) return;
  if (mode.json) err(text);
  else out(text);
}

/** What was asked for itself, such as a help text: to standard output, whatever the mode. */
export function print(text: string): void {
  out(text);
}

/** A remark that is not part of the report, such as a drawn seed: to standard error. */
export function note(text: string): void {
  if (!mode.quiet) err(text);
}

/** Prints the library's warnings as remarks while `body` runs. */
export async function withWarnings<T>(body: () => Promise<T>): Promise<T> {
  const { warn } = console;
  console.warn = (...parts: unknown[]) => note(inFlags(parts.map(String).join(" ")));
  try {
    return await body();
  } finally {
    console.warn = warn;
  }
}

/** An error, whatever the mode. */
export function complain(text: string): void {
  err(text);
}

/** The result of a command, for scripts: printed with --json only. */
export function sayJson(value: unknown): void {
  if (mode.json) console.log(jsonText(value));
}

/**
 * JSON of a result. Integers beyond 2⁵³ are written as texts, since most readers of JSON would
 * round them.
 */
export function jsonText(value: unknown): string {
  return escapeJsonControls(JSON.stringify(value, (_, each) => {
    if (typeof each === "string") return hideSecrets(each);
    if (typeof each === "bigint") return seedForJson(each);
    return each;
  }, 2));
}
