/** Command lines: any arguments give values that their declarations allow, or an ArgumentError. */

import { assert } from "@std/assert";
import fc from "fast-check";
import { ArgumentError } from "../../cli/argument_error.ts";
import { parseArguments } from "../../cli/arguments.ts";
import type { Flag } from "../../cli/flag_types.ts";
import { spellings } from "../../cli/flag_types.ts";
import { parseAxis } from "../../cli/grid_axis.ts";
import { commandTable } from "../../cli/main.ts";
import { parseWeightedFile } from "../../cli/weighted_file.ts";
import { parseCsv } from "../../pipeline/text/csv.ts";
import { SchedulerError } from "../../schedulers/error.ts";
import { fuzz } from "./fuzz.ts";

const commands = (await Promise.all(commandTable.map(async ({ load }) => (await load()).command)))
  .flatMap((command) => [...command.subcommands?.values() ?? [command]]).filter(({ flags }) =>
    Object.keys(flags).length > 0
  );

const word = fc.oneof(
  fc.constantFrom("", "-", "--", "-1", "1", "1e9", "1e400", "0x10", "NaN", "Infinity", "1_000", "１", "\x1b[2J", "-0"),
  fc.constantFrom(
    "18446744073709551616",
    "-1e-400",
    ".5",
    "5.",
    "+3",
    "1,5",
    "50%",
    "true",
    "__proto__",
    "constructor",
  ),
  fc.string({ unit: "binary", maxLength: 6 }),
  fc.double().map(String),
);

/** A command with arguments that are often its own flags. */
const line = fc.constantFrom(...commands).chain(({ flags }) => {
  const own = Object.entries(flags).flatMap(([name, flag]) => spellings(name, flag));
  const flag = fc.oneof(fc.constantFrom(...own), fc.constantFrom("--__proto__", "--toString", "--no-", "--=", "-px"));
  const argument = fc.oneof(flag, word, fc.tuple(flag, word).map(([flag, word]) => `${flag}=${word}`));
  return fc.array(argument, { maxLength: 6 }).map((args) => ({ flags, args }));
});

/** Whether a value is one that its declaration allows. */
function isDeclared(flag: Flag, value: unknown): boolean {
  switch (flag.kind) {
    case "switch":
      return typeof value === "boolean";
    case "texts":
      return Array.isArray(value) && value.every((text) => typeof text === "string");
    case "seed":
      return typeof value === "bigint" && value >= 0n && value <= (flag.max ?? 2n ** 64n - 1n);
    case "pair":
      return value === undefined || Array.isArray(value) && value.length === 2 && value.every(Number.isSafeInteger);
    case "text":
      return value === undefined || typeof value === "string" && (flag.choices?.includes(value) ?? true);
    default: {
      const { min = -Infinity, max = Infinity, above = -Infinity } = flag;
      if (value === undefined) return flag.default === undefined;
      const isWhole = flag.kind === "number" || Number.isSafeInteger(value);
      return Number.isFinite(value) && isWhole && value as number >= min && value as number <= max &&
        value as number > above;
    }
  }
}

Deno.test("any arguments of any command are values that its flags declare, or an ArgumentError", async () => {
  await fuzz(line, ({ flags, args }) => {
    try {
      const { values } = parseArguments(args, flags, { positionals: { placeholder: "X", min: 0, max: 2 } });
      for (const [name, flag] of Object.entries(flags)) {
        assert(isDeclared(flag, values[name]), `${name} ${String(values[name])} of ${JSON.stringify(args)}`);
      }
    } catch (error) {
      assert(error instanceof ArgumentError, String((error as Error).stack));
    }
  }, 3000);
});

Deno.test("any axis has 1 to 64 values, any weighted file a finite weight, or is a typed error", async () => {
  const names = fc.constantFrom("lambda", "strength", "seed", "sampler", "steps", "guidance", "cfg", "__proto__", "");
  const values = fc.oneof(
    fc.array(word, { maxLength: 4 }).map((list) => list.join(",")),
    fc.tuple(word, word).map((ends) => ends.join("..")),
  );
  await fuzz(fc.tuple(names, values, fc.constantFrom("=", "", "==")), ([name, list, equals]) => {
    for (
      const parse of [() => parseAxis(`${name}${equals}${list}`, "--x"), () => parseWeightedFile(list, "--lora", "F")]
    ) {
      try {
        const read = parse();
        if ("weight" in read) assert(Number.isFinite(read.weight) && read.path !== "");
        else assert(read.values.length >= 1 && read.values.length <= 64);
      } catch (error) {
        const isTold = error instanceof ArgumentError || error instanceof SchedulerError;
        assert(isTold, String((error as Error).stack));
      }
    }
  }, 2000);
});

Deno.test("any CSV has records of its columns, each named once, or is a SyntaxError", async () => {
  const cell = fc.oneof(fc.constantFrom("a", "b", '"', '""', '"x"', " ", "\0", "\ufeff", "__proto__"), fc.string());
  const rows = fc.array(fc.array(cell, { maxLength: 4 }).map((cells) => cells.join(",")), { maxLength: 4 });
  await fuzz(fc.tuple(rows, fc.constantFrom("\n", "\r\n", "\r")), ([rows, end]) => {
    try {
      const { columns, records } = parseCsv(rows.join(end));
      for (const record of records) assert(record.size === new Set(columns).size);
    } catch (error) {
      assert(error instanceof SyntaxError, String((error as Error).stack));
    }
  }, 1000);
});
