/**
 * What a kernel declares: bindings, parameters, constants, WGSL, grid and cost.
 *
 * @module
 */
import type { WgslExtension } from "../device_info.ts";

/** Type of a uniform parameter. */
export type Scalar = "u32" | "i32" | "f32";

/**
 * Type of a compile-time constant.
 *
 * - `"u32"`, `"i32"`, `"f32"`: a number, emitted as `const NAME = value;`
 * - `"bool"`: emitted as `const NAME = value;`
 * - `"type"`: the name of a WGSL type, emitted as `alias NAME = value;`
 * - a list of strings: one of them, for the function that generates the WGSL; not emitted
 */
export type ConstantType = "u32" | "i32" | "f32" | "bool" | "type" | readonly string[];

/** The constants of a kernel: a type per name. */
export type ConstantTypes = Readonly<Record<string, ConstantType>>;

/** The value of a constant of type T. */
export type ConstantValue<T extends ConstantType> = T extends readonly (infer S)[] ? S
  : T extends "bool" ? boolean
  : T extends "type" ? string
  : number;

/** A value for each constant. */
export type ConstantValues<C extends ConstantTypes> = { readonly [N in keyof C]: ConstantValue<C[N]> };

/** Constants of a kernel that declares none. */
export type NoConstants = Readonly<Record<never, ConstantType>>;

/** Workgroups along x, y and z. */
export type Grid = readonly [number, number, number];

/**
 * Lower bound of the cost of one dispatch: the arithmetic of the definition, and each operand's
 * bytes moved once.
 */
export interface Cost {
  /** Floating-point operations. */
  readonly flops: number;
  /** Bytes read and written. */
  readonly bytes: number;
}

/**
 * How a kernel accesses one buffer. Made by {@linkcode input}, {@linkcode output} and {@linkcode
 * storage}.
 */
export interface Binding {
  /** Whether the kernel reads or writes the buffer. */
  readonly access: "read" | "write";
  /**
   * Elements per access of an f32 or f16 tensor: 1 (f32), 4 (vec4f) or 8 (mat2x4f), or the name of
   * a constant that holds one of them.
   */
  readonly vectorWidth?: number | string;
  /** WGSL type of any other buffer. */
  readonly type?: string;
}

/**
 * An f32 or f16 tensor that is read. The kernel calls `NAME_at(i)`, which returns the i-th group of
 * `vectorWidth` neighboring elements as f32, vec4f or mat2x4f. With a width of 4 or 8,
 * `NAME_element_at(i)` returns element i. With the extension f16 and a width of 1 or 4,
 * `NAME_half_at(i)` returns an access as f16 or vec4<f16>, without conversion where the tensor is
 * f16.
 *
 * @param vectorWidth 1, 4 or 8, or the name of a constant that holds one of them
 */
export function input(vectorWidth: 1 | 4 | 8 | string = 1): Binding {
  return { access: "read", vectorWidth };
}

/**
 * An f32 or f16 tensor that is written with `NAME_put(i, value)`; `NAME_at(i)` reads back. f16
 * needs a width of 4 or 8.
 *
 * @param vectorWidth as for {@linkcode input}
 */
export function output(vectorWidth: 1 | 4 | 8 | string = 1): Binding {
  return { access: "write", vectorWidth };
}

/** A buffer of a WGSL type, accessed as `NAME[i]`. */
export function storage(access: "read" | "write", type: string): Binding {
  return { access, type };
}

/** What the engine, the tests, the profiler and the benchmark need to know about a kernel. */
export interface KernelDeclaration<B extends string, P extends string, C extends ConstantTypes> {
  /** The kernel's name, in labels, profiles and errors. */
  readonly name: string;
  /** The buffers, by their names in the WGSL body. */
  readonly bindings: Readonly<Record<B, Binding>>;
  /** The parameters of a dispatch, by their names in the WGSL body. */
  readonly params: Readonly<Record<P, Scalar>>;
  /** Compile-time constants. Each set of values is a variant of the kernel. Default: none. */
  readonly constants?: C;
  /**
   * WGSL extensions that the body uses where the device has them. The engine writes the `enable`
   * lines.
   */
  readonly extensions?:
    | readonly WgslExtension[]
    | ((constants: ConstantValues<C>) => readonly WgslExtension[]);
  /**
   * The body with an entry point `main`, or a function that generates it. Parameters are available
   * as `params.NAME`, also in functions. No function may take a pointer to them
   * (`ptr<uniform, …>`): on software devices they are a private variable.
   */
  readonly wgsl: string | ((constants: ConstantValues<C>) => string);
  /** The number of workgroups of a dispatch. */
  readonly grid: (params: Readonly<Record<P, number>>, constants: ConstantValues<C>) => Grid;
  /** The cost of a dispatch. */
  readonly cost: (params: Readonly<Record<P, number>>, constants: ConstantValues<C>) => Cost;
}

/** The most workgroups along one axis of a grid: what every WebGPU device allows. */
export const mostWorkgroups = 65_535;

/**
 * A grid of at least `workgroups` workgroups, folded over x and y because one axis holds {@linkcode
 * mostWorkgroups}. A workgroup's index is `workgroup_id.x + workgroup_id.y * num_workgroups.x`, so
 * `global_invocation_id.x` is the index of an invocation only while one axis holds them all.
 */
export function spread(workgroups: number): Grid {
  const rows = Math.ceil(workgroups / mostWorkgroups);
  return [rows === 0 ? 0 : Math.ceil(workgroups / rows), rows, 1];
}
