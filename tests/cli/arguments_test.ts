import { assert, assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import { brokenCommand } from "../../cli/command.ts";
import { ArgumentError, type Flags, helpOfFlags, parseArguments } from "../../cli/arguments.ts";

const flags = {
  model: { kind: "text", alias: "m", default: "models/pocket", help: "model directory or hub id" },
  prompt: { kind: "texts", alias: "p", help: "what to draw" },
  negativePrompt: { kind: "text", alias: "n", help: "what not to draw" },
  width: { kind: "whole", alias: "W", min: 8, multipleOf: 8, help: "width in pixels" },
  steps: { kind: "whole", default: 50, min: 1, max: 1000, help: "denoising steps" },
  lambda: { kind: "number", alias: ["lamb"], default: 0.1, above: 0, help: "how strongly the old meaning is kept" },
  samplingMethod: { kind: "text", default: "ddim", choices: ["ddim", "pndm", "lms"], help: "sampler" },
  seed: { kind: "whole", help: "seed" },
  vaeTiling: { kind: "switch", help: "decode in tiles" },
  safety: { kind: "switch", default: true, help: "check pictures" },
} as const satisfies Flags;

const parse = (...args: string[]) => parseArguments(args, flags).values;
const refuses = (args: string[], message: string): void => {
  const error = assertThrows(() => parse(...args), ArgumentError);
  assert(error.message.includes(message), `"${error.message}" does not say "${message}"`);
};

Deno.test("parseArguments() fills in the declared defaults, and undefined where there is none", () => {
  assertEquals(parse(), {
    model: "models/pocket",
    prompt: [],
    negativePrompt: undefined,
    width: undefined,
    steps: 50,
    lambda: 0.1,
    samplingMethod: "ddim",
    seed: undefined,
    vaeTiling: false,
    safety: true,
  });
});

Deno.test("parseArguments() gives typed values by name, letter, alias and equals sign", () => {
  const { values, given } = parseArguments(
    [
      "-m",
      "here",
      "-p",
      "a rose",
      "--prompt=a car",
      "-W=64",
      "--lamb",
      "1e1",
      "--sampling-method",
      "pndm",
      "--vae-tiling",
    ],
    flags,
  );
  const width: number | undefined = values.width;
  const steps: number = values.steps;
  const method: "ddim" | "pndm" | "lms" = values.samplingMethod;
  assertEquals([values.model, values.prompt, width, values.lambda, method, values.vaeTiling, steps], [
    "here",
    ["a rose", "a car"],
    64,
    10,
    "pndm",
    true,
    50,
  ]);
  assertEquals([...given].sort(), ["lambda", "model", "prompt", "samplingMethod", "vaeTiling", "width"]);
});

Deno.test("a value may be any text: empty, negative, with an equals sign, or true", () => {
  assertEquals(parse("-n", "").negativePrompt, "");
  assertEquals(parse("--seed", "-1").seed, -1);
  assertEquals(parse("-n", "-5").negativePrompt, "-5");
  assertEquals(parse("-n", "a=b").negativePrompt, "a=b");
  assertEquals(parse("--negative-prompt=--x=1").negativePrompt, "--x=1");
  assertEquals(parse("-p", "true", "-p", "2", "-p", "", "-p", "-").prompt, ["true", "2", "", "-"]);
  assertEquals(parse("-p", "", "-p", "").prompt, ["", ""]);
});

Deno.test("every list of texts is returned as given", () => {
  fc.assert(fc.property(fc.array(fc.string({ unit: "grapheme" })), (texts) => {
    assertEquals(parse(...texts.map((text) => `--prompt=${text}`)).prompt, texts);
  }));
});

Deno.test("a switch takes no value, can be turned off, and its last occurrence counts", () => {
  assertEquals(parse("--no-safety").safety, false);
  assertEquals(parse("--no-safety", "--safety").safety, true);
  assertEquals(parse("--safety", "--no-safety").safety, false);
  assertEquals(parse("--vae-tiling=false").vaeTiling, false);
  refuses(["--vae-tiling=yes"], "takes no value");
  refuses(["--no-steps", "3"], "--no-steps as this command has no such flag");
  for (const name of ["--num-inference-steps", "--num_inference_steps", "--numInferenceSteps"]) {
    refuses([name, "3"], `${name} as this command has no such flag: did you mean --steps?`);
  }
  const { values, positionals } = parseArguments(["--vae-tiling", "true"], flags, {
    positionals: { placeholder: "PATH", min: 0, max: 1 },
  });
  assertEquals([values.vaeTiling, positionals], [true, ["true"]]);
});

Deno.test("an unknown flag is an error that names the nearest known one", () => {
  refuses(["--step", "3"], "did you mean --steps?");
  refuses(["-steps", "3"], "did you mean --steps?");
  refuses(["--negativePrompt", "x"], "did you mean --negative-prompt?");
  refuses(["--vae-tilling"], "did you mean --vae-tiling?");
  refuses(["--qqqqqqqq"], "--help lists");
  refuses(["-x"], "-x");
  refuses(["--__proto__", "x"], "no such flag");
  assertEquals(assertThrows(() => parse("--stepz=3"), ArgumentError).argument, "--stepz");
});

Deno.test("a missing value is an error that shows how to write one", () => {
  refuses(["--steps"], "write --steps N");
  refuses(["--steps", "--seed", "3"], "without a value");
  refuses(["-n", "-p", "x"], "-n=-p");
});

Deno.test("numbers are validated: syntax, integers, range and multiples", () => {
  for (const text of ["many", "", "NaN", "Infinity", "0x10", "1_000", "1 0", "5."]) {
    if (text === "5.") assertEquals(parse("--steps", text).steps, 5);
    else {refuses(
        ["--steps", text],
        `--steps ${JSON.stringify(text)}: it takes a whole number, at least 1, at most 1000`,
      );}
  }
  for (const text of ["0", "-1", "1001", "2.5", "1e99"]) refuses(["--steps", text], "a whole number");
  assertEquals(parse("--steps", "1e2").steps, 100);
  refuses(["-W", "100"], "a multiple of 8");
  refuses(["--lambda", "0"], "a number, above 0");
  assertEquals(parse("--lambda", ".5").lambda, 0.5);
  refuses(["--seed", "9007199254740993"], "a whole number");
});

Deno.test("a text that is not one of the choices is an error that lists them", () => {
  refuses(["--sampling-method", "dim"], "ddim, pndm, lms (did you mean ddim?)");
  refuses(["--sampling-method", ""], "ddim, pndm, lms");
});

Deno.test("a missing required flag is an error that describes the flag", () => {
  const needy = {
    source: { kind: "text", alias: "s", required: true, help: "the prompt to edit" },
  } as const satisfies Flags;
  const source: string = parseArguments(["--source", "roses"], needy).values.source;
  assertEquals(source, "roses");
  const error = assertThrows(() => parseArguments([], needy), ArgumentError);
  assertEquals(error.message, "Cannot go on without -s or --source: the prompt to edit");
});

Deno.test("the number of positional arguments is validated, and none are accepted unless declared", () => {
  refuses(["-p", "a", "rose"], 'Cannot use the argument "rose"');
  const positionals = { placeholder: "PATH", min: 1, max: 2 };
  const parsed = (...args: string[]): string[] => parseArguments(args, flags, { positionals }).positionals;
  assertEquals(parsed("a", "--steps", "3", "b"), ["a", "b"]);
  assertEquals(parsed("--", "--steps", "-p"), ["--steps", "-p"]);
  assertEquals(parsed("7", "-"), ["7", "-"]);
  assertThrows(() => parsed(), ArgumentError, "without PATH");
  assertThrows(() => parsed("a", "b", "c"), ArgumentError, "at most 2 (PATH)");
});

Deno.test("values are the caller's own: changing a list does not change its default", () => {
  const listed = { name: { kind: "texts", default: ["a"], help: "names" } } as const satisfies Flags;
  parseArguments([], listed).values.name.push("b");
  assertEquals(parseArguments([], listed).values.name, ["a"]);
});

Deno.test("helpOfFlags() shows each flag with its letter, value and default, under its group", () => {
  const help = helpOfFlags({
    ...flags,
    source: { kind: "text", required: true, help: "the prompt to edit", group: "The edit" },
  });
  for (
    const line of [
      "-m, --model TEXT",
      "model directory or hub id (default: models/pocket)",
      "what to draw (repeatable)",
      "--steps N",
      "(default: 50)",
      "--sampling-method ddim|pndm|lms",
      "check pictures (default: on; --no-safety turns it off)",
      "The edit:\n  --source TEXT",
      "the prompt to edit (required)",
    ]
  ) assert(help.includes(line), `${line} is not in\n${help}`);
  assert(help.split("\n").every((line) => line.length <= 110), help);
});

Deno.test("seeds are exact up to 2⁶⁴ − 1; -1 gives a random one, which is told", () => {
  const seeds = { seed: { kind: "seed", default: 42n, help: "seed" } } as const satisfies Flags;
  const of = (text: string) => parseArguments(["--seed", text], seeds);
  assertEquals(parseArguments([], seeds).values.seed, 42n);
  for (const text of ["0", "7", "9007199254740993", "18446744073709551615"]) {
    assertEquals([of(text).values.seed, of(text).drawn], [BigInt(text), []]);
  }
  assertEquals(of("1e3").values.seed, 1000n);
  const drawn = of("-1");
  const seed: bigint = drawn.values.seed;
  assert(seed >= 0n && seed < 2n ** 32n);
  assertEquals(drawn.drawn, ["seed"]);
  for (const text of ["-2", "18446744073709551616", "1.5", "NaN", "", "0x10", "1e99"]) {
    assertThrows(() => of(text), ArgumentError, "a whole number from 0 to 18446744073709551615, or -1");
  }
});

Deno.test("other spellings of numbers are refused with the decimal one", () => {
  refuses(["--steps", "0x10"], "did you mean 16?");
  refuses(["--steps", "1_000"], "did you mean 1000?");
  refuses(["--lambda", "50%"], "did you mean 0.5?");
  refuses(["--lambda", "0,5"], "did you mean 0.5?");
  assertEquals([parse("--lambda", "1e300").lambda, parse("--lambda", ".5").lambda], [1e300, 0.5]);
});

Deno.test("a flag that takes one value is refused when it is given twice; the last word of a switch counts", () => {
  refuses(["--steps", "3", "--steps", "4"], 'Cannot use --steps twice ("3", then "4")');
  refuses(["-m", "a", "--model=b"], "Cannot use --model twice");
  assertEquals(parse("--steps", "3", "--steps", "3").steps, 3);
  assertEquals(parse("--no-safety", "--safety").safety, true);
});

Deno.test("a flag with a value of its own may be written without one", () => {
  const bare = { json: { kind: "text", bare: "-", help: "JSON" }, quiet: { kind: "switch", help: "quiet" } } as const;
  const of = (...args: string[]) => parseArguments(args, bare).values;
  assertEquals([of().json, of("--json").json, of("--json", "--quiet").json, of("--json", "a.json").json], [
    undefined,
    "-",
    "-",
    "a.json",
  ]);
  assertEquals(of("--json", "--quiet").quiet, true);
});

Deno.test("helpOfFlags() fits any width between 60 and 120 columns", () => {
  for (const width of [60, 80, 120]) {
    for (const line of helpOfFlags(flags, width).split("\n")) assert(line.length <= width, line);
  }
});

Deno.test("long examples are broken between arguments, and mean the same", () => {
  const line = 'bluerose edit -m models/pocket --source "A rose" --destination "A blue rose" -p "a rose" --cfg-scale 5';
  const lines = brokenCommand(line, 50);
  assert(lines.length > 1 && lines.every((each) => each.length <= 50), lines.join("\n"));
  assertEquals(lines.map((each) => each.replace(/ \\$/, "").trim()).join(" "), line);
  assertEquals(brokenCommand("bluerose demo", 50), ["bluerose demo"]);
});

Deno.test("a flag of many values takes all words up to the next flag, and again", () => {
  const many = {
    target: { kind: "texts", many: true, help: "" },
    seed: { kind: "seed", default: 0n, help: "" },
  } as const;
  const { values } = parseArguments(["--target", "0.5", "-1", "", "--seed", "3", "--target=a b", "c"], many);
  assertEquals(values, { target: ["0.5", "-1", "", "a b", "c"], seed: 3n });
});
