/**
 * What a kernel declares: bindings, parameters, constants, WGSL, grid and cost.
 *
 * @module
 */
import type { WgslExtension } from "../device_info.ts";

/** Type of a uniform parameter. */
export type Scalar = "u32" | "i32" | "f32";

/**
 * A compile-time constant: numbers and booleans become `const NAME`, strings become `alias NAME`
 * (of a WGSL type).
 */
export type Constant = number | boolean | string;

/** Workgroups along x, y and z. */
export type Grid = readonly [number, number, number];

/**
 * What one run costs at least: the arithmetic of the definition, and each operand's bytes moved
 * once.
 */
export interface Cost {
  readonly flops: number;
  readonly bytes: number;
}

/**
 * How a kernel sees one buffer. Made by {@linkcode input}, {@linkcode output} and {@linkcode
 * storage}.
 */
export interface Binding {
  readonly access: "read" | "write";
  /**
   * Elements an access moves, for floating-point tensors of any storage type: 1 (f32), 4 (vec4f) or
   * 8 (mat2x4f).
   */
  readonly lanes?: number | string;
  /** A WGSL type, for everything else. */
  readonly type?: string;
}

/**
 * A floating-point tensor that is read. The kernel calls `NAME_at(i)`, which is `lanes`
 * neighbouring numbers as f32, vec4f or mat2x4f, whether the tensor stores f32 or f16.
 * `NAME_first(i)` and `NAME_last(i)` are one of these, where there are four or eight. `lanes` may
 * name a constant that holds 1, 4 or 8.
 */
export function input(lanes: 1 | 4 | 8 | string = 1): Binding {
  return { access: "read", lanes };
}

/**
 * A floating-point tensor that is written: `NAME_put(i, value)`; `NAME_at(i)` reads back. f16 wants
 * 4 or 8 lanes.
 */
export function output(lanes: 1 | 4 | 8 | string = 1): Binding {
  return { access: "write", lanes };
}

/** A buffer of a WGSL type, accessed as `NAME[i]`. */
export function storage(access: "read" | "write", type: string): Binding {
  return { access, type };
}

/**
 * A kernel as it is written down: everything that the engine, the tests, the profiler and the bench
 * need to know of it.
 */
export interface KernelDeclaration<B extends string, P extends string, C extends string> {
  readonly name: string;
  readonly bindings: Readonly<Record<B, Binding>>;
  readonly params: Readonly<Record<P, Scalar>>;
  /** Names of the constants that `run` must be given. */
  readonly constants?: readonly C[];
  /**
   * WGSL extensions that the body uses where the device has them: the engine writes the `enable`
   * lines that the compiler wants.
   */
  readonly extensions?:
    | readonly WgslExtension[]
    | ((constants: Readonly<Record<C, Constant>>) => readonly WgslExtension[]);
  /**
   * The body: WGSL with an entry point `main`, or what generates it from the constants. Params
   * arrive as `params.NAME`.
   */
  readonly wgsl: string | ((constants: Readonly<Record<C, Constant>>) => string);
  readonly grid: (params: Readonly<Record<P, number>>, constants: Readonly<Record<C, Constant>>) => Grid;
  readonly cost: (params: Readonly<Record<P, number>>, constants: Readonly<Record<C, Constant>>) => Cost;
}
