/**
 * Reads RADV's assembly of a compute pipeline: its basic blocks, its loops, and how often they
 * turn.
 *
 * @module
 */

/** One machine instruction. */
export interface Instruction {
  readonly name: string;
  readonly operands: string;
  /** Bytes of its encoding. */
  readonly bytes: number;
}

/** Instructions that are always executed together. */
export interface Block {
  readonly name: string;
  readonly instructions: Instruction[];
}

/** Blocks `first` … `last`, the last of which branches back to the first. */
export interface Loop {
  readonly first: number;
  readonly last: number;
  /** Number of turns; 1 where the code does not tell. */
  readonly trips: number;
  /** Whether `trips` was read from the code. */
  readonly isKnown: boolean;
}

/** A compiled pipeline, as null_icd.c writes it. */
export interface Compiled {
  /** The driver's statistics by name, such as "VGPRs" and "LDS size". */
  readonly statistics: Readonly<Record<string, number>>;
  readonly blocks: readonly Block[];
}

/** Parses a file that null_icd.c wrote. */
export function parseCompiled(text: string): Compiled {
  const [head] = text.split("=== ", 1);
  const statistics = Object.fromEntries(
    head.trim().split("\n").map((line) => line.split("\t")).map(([name, value]) => [name, Number(value)]),
  );
  const blocks: Block[] = [];
  for (const line of (text.split("=== Assembly\n")[1] ?? "").split("\n")) {
    const label = /^(BB\d+):/.exec(line);
    if (label) blocks.push({ name: label[1], instructions: [] });
    const repeated = /^\t\(then repeated (\d+) times\)/.exec(line);
    const code = /^\t(\S+)\s*(.*?)\s*(?:;((?: [0-9a-f]{8})*))?$/.exec(line);
    const last = blocks.at(-1)?.instructions;
    if (repeated) last?.push(...Array<Instruction>(Number(repeated[1])).fill(last.at(-1)!));
    else if (code) {
      const bytes = 4 * (code[3]?.trim().split(" ").length ?? 0);
      last?.push({ name: code[1], operands: code[2], bytes });
    }
  }
  return { statistics, blocks };
}

/** The loops of a program, the shortest first. */
export function loopsOf(blocks: readonly Block[]): Loop[] {
  const indexOf = new Map(blocks.map(({ name }, index) => [name, index]));
  const lastOf = new Map<number, number>();
  blocks.forEach(({ instructions }, index) => {
    for (const { name, operands } of instructions) {
      const target = /^s_c?branch/.test(name) ? indexOf.get(operands.trim()) : undefined;
      if (target !== undefined && target <= index) lastOf.set(target, Math.max(index, lastOf.get(target) ?? 0));
    }
  });
  const spans = [...lastOf].map(([first, last]) => ({ first, last }))
    .sort((a, b) => (a.last - a.first) - (b.last - b.first));
  return spans.map((span) => {
    const inner = spans.filter((other) => other !== span && other.first >= span.first && other.last <= span.last);
    const isOwn = (at: number) => !inner.some(({ first, last }) => first <= at && at <= last);
    const own = blocks.slice(span.first, span.last + 1).filter((_, i) => isOwn(span.first + i))
      .flatMap(({ instructions }) => instructions);
    const trips = tripsOf(own);
    return { ...span, trips: trips ?? 1, isKnown: trips !== undefined };
  });
}

const operandsOf = ({ operands }: Instruction) => operands.split(/,\s*/);

/** A literal operand: a whole number. */
function immediate(text: string | undefined): number | undefined {
  const number = Number(text);
  return text !== undefined && text !== "" && Number.isInteger(number) ? number : undefined;
}

/** Names of instructions whose first operand is a register that they write. */
const writes = /^(?!s_cmp|v_cmp|s_wait|s_c?branch|buffer_store|ds_write|ds_store)/;

/**
 * The turns of a loop that counts to a literal by literal steps, given its own instructions:
 * ⌈limit / step⌉.
 */
function tripsOf(own: readonly Instruction[]): number | undefined {
  const constants = literalRegisters(own);
  const literal = (text: string) => immediate(text) ?? constants.get(text);
  for (const instruction of own) {
    if (!/^(s_cmpk?_(ge|lt|gt|le|eq|lg)_[ui]32|v_cmpx?_\w+_[ui]32)/.test(instruction.name)) continue;
    const sides = operandsOf(instruction).slice(-2);
    const [counter, limit] = literal(sides[0]) === undefined ? sides : [sides[1], sides[0]];
    const bound = literal(limit);
    if (bound === undefined || bound < 2 || bound > 65536) continue;
    // A register with other writers is no counter: bounds checks add and compare, too.
    const writers = own.filter((each) => writes.test(each.name) && operandsOf(each)[0] === counter);
    if (writers.length !== 1) continue;
    const steps = writers.filter(({ name }) => /^(s_add(k|_u32|_i32|_co_u32)|v_add_(nc_|co_)?u32)/.test(name))
      .map(operandsOf).filter(([, ...from]) => from.some((each) => literal(each) !== undefined));
    const step = steps[0]?.slice(1).map(literal).find((each) => each !== undefined);
    if (step !== undefined && step > 0) return Math.ceil(bound / step);
  }
}

/** Registers to which a stretch of code assigns one literal and nothing else. */
function literalRegisters(code: readonly Instruction[]): Map<string, number> {
  const values = new Map<string, number>(), others = new Set<string>();
  for (const instruction of code) {
    const [to, value] = operandsOf(instruction), number = immediate(value);
    if (/^[sv]_mov(k_i32|_b32)/.test(instruction.name) && number !== undefined && !values.has(to)) {
      values.set(to, number);
    } else if (writes.test(instruction.name)) {
      others.add(to);
    }
  }
  for (const name of others) values.delete(name);
  return values;
}
