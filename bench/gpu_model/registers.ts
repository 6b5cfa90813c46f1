/**
 * The registers of a wave at one place of its code, as far as the code tells them.
 *
 * @module
 */
import { constant, either, isEqual, type Known, type Lanes, type Mask, oneOf, select, someUniform } from "./lanes.ts";

/** Operands that were parsed before; code repeats them. */
const named = new Map<string, readonly string[]>();

const literals = new Map<string, Known>();

/** The value of an operand that is a whole number. */
function literal(wave: number, operand: string): Known {
  const key = `${wave} ${operand}`;
  if (!literals.has(key)) {
    const number = operand === "null" ? 0 : Number(operand);
    const isWhole = operand !== "" && !operand.includes(".") && Number.isInteger(number);
    literals.set(key, isWhole ? constant(wave, number | 0) : undefined);
  }
  return literals.get(key);
}

/** The registers that an operand names: v12, or those of v[12:15]. */
function registersOf(operand: string): readonly string[] {
  const names = named.get(operand) ?? parsed(operand);
  named.set(operand, names);
  return names;
}

function parsed(operand: string): string[] {
  const range = /^([vs])\[(\d+):(\d+)\]$/.exec(operand);
  if (!range) return /^([vs]\d+|vcc(_lo)?|exec(_lo)?|scc)$/.test(operand) ? [operand.replace("_lo", "")] : [];
  const first = Number(range[2]), count = Number(range[3]) - first + 1;
  return Array.from({ length: count }, (_, i) => `${range[1]}${first + i}`);
}

/**
 * Vector registers hold {@linkcode Known} values, unknown until written. Scalar registers hold one
 * number in all lanes, unknown until written, or begin with a mask of lanes. `exec` masks the lanes
 * in which vector instructions write.
 */
export class Registers {
  /** Register by name: a value, or a mask. A missing one is unknown. */
  readonly #held: Map<string, Lanes | Uint8Array>;
  /**
   * What registers held before they were written in lanes that are not known. Such a write counts
   * for all lanes until `exec` changes to other lanes, as those that were off do not read it.
   */
  readonly #before: Map<string, Known>;

  constructor(readonly wave: number, from?: Registers) {
    this.#held = new Map(from && from.#held);
    this.#before = new Map(from && from.#before);
    if (!from) this.#held.set("exec", new Uint8Array(wave).fill(1));
  }

  /** The value of an operand: a register, or a whole number. */
  value(operand: string): Known {
    const [name] = registersOf(operand), held = name === undefined ? undefined : this.#held.get(name);
    if (name?.startsWith("v") && name !== "vcc") return held && !(held instanceof Uint8Array) ? held : undefined;
    if (name !== undefined || /^(vcc|exec|m0|ttmp|src_)/.test(operand)) {
      return held && !(held instanceof Uint8Array) ? held : someUniform(this.wave);
    }
    return literal(this.wave, operand);
  }

  /** The mask that an operand holds. */
  mask(operand: string): Mask {
    if (operand === "-1" || operand === "0") return new Uint8Array(this.wave).fill(operand === "0" ? 0 : 1);
    const held = this.#held.get(registersOf(operand)[0]);
    return held instanceof Uint8Array ? held : undefined;
  }

  /** Writes one register: a vector register in the lanes that `exec` has, a scalar one always. */
  write(operand: string, value: Known): void {
    const registers = registersOf(operand), [name] = registers;
    for (const other of registers.slice(1)) this.write(other, undefined);
    if (name === undefined) return;
    if (!name.startsWith("v") || name === "vcc") return this.#set(name, value);
    const exec = this.mask("exec");
    if (!exec && !this.#before.has(name)) this.#before.set(name, this.value(name));
    this.#set(name, exec?.includes(0) ? select(exec, value, this.value(name)) : value);
  }

  /** Writes a mask to scalar registers. */
  writeMask(operand: string, mask: Mask): void {
    const [name, ...others] = registersOf(operand);
    if (name === undefined) return;
    if (name === "exec") this.#endPartialWrites();
    this.#set(name, mask);
    for (const other of others) this.#held.delete(other);
  }

  /** Turns lanes off. */
  narrow(mask: Mask): void {
    const exec = this.mask("exec");
    this.#set("exec", exec && mask && exec.map((bit, lane) => bit & mask[lane]));
  }

  #set(name: string, value: Lanes | Uint8Array | undefined): void {
    if (value) this.#held.set(name, value);
    else this.#held.delete(name);
  }

  /** From here on, a partly written register holds the new or the old value, lane by lane. */
  #endPartialWrites(): void {
    for (const [name, before] of this.#before) this.#set(name, oneOf(this.value(name), before));
    this.#before.clear();
  }

  /**
   * Where this and `other` lead to the same place: what is known there.
   *
   * @returns whether that is less than here
   */
  meet(other: Registers): boolean {
    let hasChanged = false;
    const lose = (name: string, value: Lanes | Uint8Array | undefined) => {
      this.#set(name, value);
      hasChanged = true;
    };
    const areLanesKnown = this.mask("exec") && sameMask(this.mask("exec"), other.mask("exec"));
    for (const [name, held] of this.#held) {
      const met = other.#held.get(name);
      if (held instanceof Uint8Array) {
        if (!(met instanceof Uint8Array) || !sameMask(held, met)) lose(name, undefined);
        continue;
      }
      const theirs = met instanceof Uint8Array ? undefined : met;
      if (isEqual(held, theirs)) continue;
      // Lanes may come from both places unless they are the same in both.
      lose(name, areLanesKnown ? either(held, theirs) : oneOf(held, theirs));
    }
    for (const [name, before] of other.#before) {
      if (this.#before.has(name) && isEqual(this.#before.get(name), before)) continue;
      if (this.#before.has(name) && this.#before.get(name) === undefined) continue;
      this.#before.set(name, this.#before.has(name) ? undefined : before);
      hasChanged = true;
    }
    return hasChanged;
  }
}

const sameMask = (a: Mask, b: Mask) => a === b || (a && b && a.every((bit, lane) => bit === b[lane]));
