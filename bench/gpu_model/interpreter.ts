/**
 * What integer instructions compute, as far as the code alone tells it.
 *
 * @module
 */
import type { Instruction } from "./assembly.ts";
import { add, byLane, compare, constant, each, type Known, multiply, select, shiftLeft, subtract } from "./lanes.ts";
import type { Registers } from "./registers.ts";

type Operation = (...operands: Known[]) => Known;

const unsigned = (of: (a: number, b: number) => number): Operation => (a, b) =>
  each((x, y) => of(x >>> 0, y >>> 0) | 0, a, b);
const signed = (of: (a: number, b: number) => number): Operation => (a, b) => each(of, a, b);
const reversed = (of: Operation): Operation => (a, b) => of(b, a);
const and = signed((a, b) => a & b), or = signed((a, b) => a | b), xor = signed((a, b) => a ^ b);
const shiftRight: Operation = (a, n) => each((x, by) => x >>> by, a, n);
const extract: Operation = (a, from, bits) => each((x, by, n) => (x >>> by) & (2 ** n - 1), a, from, bits);
const multiplyHigh = unsigned((a, b) => Number((BigInt(a) * BigInt(b)) >> 32n));

/**
 * Vector operations by name without suffixes. Factors of 24 bits are taken to fit, as compilers
 * assume.
 */
const vectorOperations: Readonly<Record<string, Operation>> = {
  v_mov_b32: (a) => a,
  v_add_u32: add,
  v_add_nc_u32: add,
  v_add3_u32: (a, b, c) => add(add(a, b), c),
  v_sub_u32: subtract,
  v_sub_nc_u32: subtract,
  v_subrev_u32: reversed(subtract),
  v_subrev_nc_u32: reversed(subtract),
  v_mul_lo_u32: multiply,
  v_mul_u32_u24: multiply,
  v_mul_i32_i24: multiply,
  v_mad_u32_u24: (a, b, c) => add(multiply(a, b), c),
  v_mad_i32_i24: (a, b, c) => add(multiply(a, b), c),
  v_mul_hi_u32: multiplyHigh,
  v_lshlrev_b32: reversed(shiftLeft),
  v_lshrrev_b32: reversed(shiftRight),
  v_ashrrev_i32: reversed(signed((a, n) => a >> n)),
  v_lshl_add_u32: (a, n, c) => add(shiftLeft(a, n), c),
  v_add_lshl_u32: (a, b, n) => shiftLeft(add(a, b), n),
  v_lshl_or_b32: (a, n, c) => or(shiftLeft(a, n), c),
  v_and_b32: and,
  v_or_b32: or,
  v_or3_b32: (a, b, c) => or(or(a, b), c),
  v_and_or_b32: (a, b, c) => or(and(a, b), c),
  v_xor_b32: xor,
  v_xad_u32: (a, b, c) => add(xor(a, b), c),
  v_not_b32: (a) => each((x) => ~x, a),
  v_bfe_u32: extract,
  v_min_u32: unsigned(Math.min),
  v_max_u32: unsigned(Math.max),
  v_min_i32: signed(Math.min),
  v_max_i32: signed(Math.max),
};

/** Scalar operations by name. */
const scalarOperations: Readonly<Record<string, Operation>> = {
  s_mov_b32: (a) => a,
  s_movk_i32: (a) => a,
  s_add_u32: add,
  s_add_i32: add,
  s_sub_u32: subtract,
  s_sub_i32: subtract,
  s_mul_i32: multiply,
  s_lshl_b32: shiftLeft,
  s_lshr_b32: shiftRight,
  s_and_b32: and,
  s_or_b32: or,
  s_xor_b32: xor,
  s_min_u32: unsigned(Math.min),
  s_max_u32: unsigned(Math.max),
  s_bfe_u32: (a, field) => each((x, at) => (x >>> (at & 31)) & (2 ** (at >> 16 & 127) - 1), a, field),
  ...Object.fromEntries(
    [1, 2, 3, 4].map((n): [string, Operation] => [
      `s_lshl${n}_add_u32`,
      (a, b) => add(shiftLeft(a, a && constant(a.values.length, n)), b),
    ]),
  ),
};

const comparisons: Readonly<Record<string, (a: number, b: number) => boolean>> = {
  lt: (a, b) => a < b,
  le: (a, b) => a <= b,
  gt: (a, b) => a > b,
  ge: (a, b) => a >= b,
  eq: (a, b) => a === b,
  ne: (a, b) => a !== b,
  lg: (a, b) => a !== b,
};

/** Operations on masks, with or without saving `exec`. */
const maskOperations: Readonly<Record<string, (a: number, b: number) => number>> = {
  and: (a, b) => a & b,
  or: (a, b) => a | b,
  xor: (a, b) => a ^ b,
  andn2: (a, b) => a & (1 - b),
  and_not1: (a, b) => a & (1 - b),
};

/** Instructions that write no register: their first operand is a source. */
const writesNothing =
  /^(s_cmp|s_bitcmp|s_wait|s_c?branch|s_barrier|s_nop|s_clause|s_delay|s_sendmsg|s_endpgm|s_inst|s_set|(buffer|global|flat|scratch)_store|ds_(write|store))/;

const split = new Map<string, readonly string[]>();

/** The operands of an instruction, without modifiers. */
export function operandsOf({ operands }: Pick<Instruction, "operands">): readonly string[] {
  const known = split.get(operands);
  if (known) return known;
  const texts = operands.split(",").map((operand) => operand.trim().split(" ")[0]);
  split.set(operands, texts);
  return texts;
}

/** Writes to the scalar condition, which most scalar arithmetic overwrites. */
function executeCondition(name: string, texts: readonly string[], registers: Registers): void {
  const compared = /^s_cmpk?_(\w\w)_([ui])32$/.exec(name);
  const [a, b] = texts.slice(-2).map((text) => registers.value(text));
  if (compared) {
    const of = comparisons[compared[1]];
    const asNumber = compared[2] === "u" ? (x: number) => x >>> 0 : (x: number) => x;
    registers.write("scc", each((x, y) => Number(of(asNumber(x), asNumber(y))), a, b));
  } else if (name === "s_add_u32") {
    registers.write("scc", each((x, y) => Number((x >>> 0) + (y >>> 0) >= 2 ** 32), a, b));
  } else if (
    /^s_/.test(name) && !/^s_(mov|movk|cselect|mul|load|buffer|cbranch|branch|wait|nop|clause|delay)/.test(name)
  ) {
    registers.write("scc", undefined);
  }
}

/** Executes an instruction: writes what is known of its results. */
export function execute(instruction: Instruction, registers: Registers): void {
  const [first, second] = `${instruction.name} ${instruction.operands}`.split(" :: ");
  if (second === undefined) return executeOne(instruction.name, instruction.operands, registers);
  // A pair reads its operands before it writes.
  const parts = [first, second].map((text) => /^(\S+) (.*)$/.exec(text)!)
    .map(([, name, operands]) => ({ name: name.replace("v_dual_", "v_"), operands }));
  const results = parts.map(({ name, operands }) => resultOf(name, operands, registers));
  parts.forEach((part, i) => registers.write(operandsOf(part)[0], results[i]));
}

function executeOne(name: string, operands: string, registers: Registers): void {
  const texts = operandsOf({ operands }), plain = name.replace(/_e(32|64)$/, "");
  if (plain === "s_cselect_b32") {
    const [condition, ifSet, otherwise] = ["scc", ...texts.slice(1)].map((text) => registers.value(text));
    const mask = compare((x) => x === 1, condition, condition);
    return registers.write(texts[0], mask && select(mask, ifSet, otherwise));
  }
  executeCondition(plain, texts, registers);
  if (writesNothing.test(name)) return;
  if (/^v_cmpx?_/.test(plain)) return executeComparison(plain, texts, registers);
  if (executeOnMasks(plain, texts, registers)) return;
  if (plain === "v_swap_b32") {
    const [a, b] = texts.map((text) => registers.value(text));
    registers.write(texts[0], b);
    return registers.write(texts[1], a);
  }
  registers.write(texts[0], resultOf(name, operands, registers));
  // Carries and other second results.
  if (/^v_.*(_co_|_u64|_i64|div_scale)/.test(plain) && /^(vcc|s)/.test(texts[1])) {
    registers.writeMask(texts[1], undefined);
  }
}

/**
 * A comparison by lane, of which those of whole numbers are followed. It writes a mask, `exec` or
 * both.
 */
function executeComparison(name: string, texts: readonly string[], registers: Registers): void {
  const [, relation, type] = /^v_cmpx?_(\w\w)_([ui])32$/.exec(name) ?? [];
  const of = comparisons[relation], exec = registers.mask("exec");
  const [a, b] = texts.slice(-2).map((text) => registers.value(text));
  const mask = of && compare(type === "u" ? (x, y) => of(x >>> 0, y >>> 0) : of, a, b);
  if (texts.length > 2) registers.writeMask(texts[0], mask && exec && mask.map((bit, lane) => bit & exec[lane]));
  if (name.startsWith("v_cmpx")) registers.narrow(mask);
}

/** Executes an instruction on masks of lanes, if it is one. */
function executeOnMasks(name: string, texts: readonly string[], registers: Registers): boolean {
  if (/^s_mov_b(32|64)$/.test(name) && (name.endsWith("64") || texts.some((text) => /^(exec|vcc)/.test(text)))) {
    const mask = registers.mask(texts[1]);
    // All of vcc's lanes are active ones, as a comparison writes the active lanes alone.
    if (texts[0].startsWith("exec") && texts[1].startsWith("vcc")) registers.narrow(mask);
    else registers.writeMask(texts[0], mask);
    return true;
  }
  const saving = /^s_(\w+)_saveexec_b(32|64)$/.exec(name);
  const plain = /^s_(\w+)_b(32|64)$/.exec(name);
  const of = maskOperations[(saving ?? plain)?.[1] ?? ""];
  if (!of) return false;
  const isMask = saving || plain![2] === "64" || texts.some((text) => /^(exec|vcc)/.test(text)) ||
    texts.slice(1).some((text) => /^s/.test(text) && registers.mask(text));
  if (!isMask) return false;
  const exec = registers.mask("exec");
  const [a, b] = saving ? [registers.mask(texts[1]), exec] : texts.slice(1).map((text) => registers.mask(text));
  const result = a && b && a.map((bit, lane) => of(bit, b[lane]));
  if (!saving) {
    registers.writeMask(texts[0], result);
  } else {
    registers.writeMask(texts[0], exec);
    if (saving[1] === "and") registers.narrow(a);
    else registers.writeMask("exec", result);
  }
  return true;
}

/** The value that an instruction writes to its first operand. */
function resultOf(name: string, operands: string, registers: Registers): Known {
  const plain = name.replace(/_e(32|64)$/, ""), { wave } = registers;
  // Parts of registers, other lanes' registers and packed operands are not followed.
  if (/_sel:|_sel_hi:|row_|quad_perm|dpp/.test(operands)) return undefined;
  const texts = operandsOf({ operands }).slice(1);
  const sources = texts.map((text) => registers.value(text));
  if (/^s_(add|mul)k_i32$/.test(plain)) { // the target is an operand, too
    const target = registers.value(operandsOf({ operands })[0]);
    return (plain === "s_addk_i32" ? add : multiply)(target, sources[0]);
  }
  const operation = vectorOperations[plain] ?? scalarOperations[plain];
  if (operation) return operation(...sources);
  if (plain === "v_cndmask_b32") {
    const mask = registers.mask(texts[2]);
    return mask && select(mask, sources[1], sources[0]);
  }
  if (/^v_mbcnt_(lo|hi)_u32_b32$/.test(plain) && texts[0] === "-1") {
    const below = (lane: number) => plain.includes("_lo_") ? Math.min(lane, 32) : Math.max(0, lane - 32);
    return add(byLane(wave, below), sources[1]);
  }
  if (/^v_read(first)?lane_b32$/.test(plain)) {
    const [value] = sources;
    const lane = plain === "v_readlane_b32" ? Number(texts[1]) : registers.mask("exec")?.indexOf(1);
    // Otherwise unknown, which a scalar register holds in all lanes.
    return value && !value.isRelative && value.known[lane ?? -1] ? constant(wave, value.values[lane!]) : undefined;
  }
  return undefined;
}
