import type { DType } from "../dtype.ts";
import { DTypeError, ShapeError } from "../errors.ts";
import type { Gpu } from "../gpu.ts";
import { roundUp } from "../memory/pool.ts";
import { Tensor, type TensorWindow } from "../tensor.ts";
import type { Binding, Constant, Grid, KernelDeclaration, Scalar } from "./declaration.ts";

export {
  type Binding,
  type Constant,
  type Cost,
  type Grid,
  input,
  type KernelDeclaration,
  output,
  type Scalar,
  storage,
} from "./declaration.ts";

/**
 * One kernel: its declaration, and `run`. Compiled on first use, once per device and set of
 * constants.
 */
export class Kernel<B extends string = string, P extends string = string, C extends string = string> {
  readonly declaration: KernelDeclaration<B, P, C>;
  /** How each binding is accessed. */
  readonly accesses: readonly Binding["access"][];
  readonly #bindings: readonly (readonly [B, Binding])[];
  readonly #params: readonly (readonly [P, Scalar])[];

  constructor(declaration: KernelDeclaration<B, P, C>) {
    this.declaration = declaration;
    this.#bindings = Object.entries<Binding>(declaration.bindings) as [B, Binding][];
    this.accesses = this.#bindings.map(([, { access }]) => access);
    this.#params = Object.entries<Scalar>(declaration.params) as [P, Scalar][];
  }

  /**
   * Records one run. Nothing waits, nothing is submitted yet.
   *
   * @throws {DTypeError} when a tensor's element type does not suit its binding
   * @throws {ShapeError} when a tensor is larger than the device can bind
   * @throws {KernelError} when the WGSL does not compile; thrown by the next wait, since WebGPU
   *   tells later
   */
  run(
    gpu: Gpu,
    tensors: Readonly<Record<B, Tensor | TensorWindow>>,
    params: Readonly<Record<P, number>>,
    constants: Readonly<Record<C, Constant>> = {} as Record<C, Constant>,
  ): void {
    const grid = this.declaration.grid(params, constants);
    if (grid[0] * grid[1] * grid[2] === 0) return; // nothing to write
    let variant = "";
    for (const name in constants) variant += `${name}=${constants[name]} `;
    const entries: GPUBufferBinding[] = [];
    const dtypes: DType[] = [];
    const { limits } = gpu.info;
    for (const [name] of this.#bindings) {
      const bound = tensors[name];
      const { tensor, byteOffset, bytes } = bound instanceof Tensor
        ? { tensor: bound, byteOffset: 0, bytes: bound.bytes }
        : bound;
      if (bytes > limits.maxStorageBufferBindingSize) {
        throw new ShapeError(
          `Cannot bind ${name} [${
            tensor.shape.join(", ")
          }] to ${this.declaration.name} as this device binds ${limits.maxStorageBufferBindingSize} bytes at most: ${bytes}`,
          [tensor.shape],
        );
      }
      const size = Math.min(roundUp(Math.max(bytes, 16), 16), tensor.buffer.size - byteOffset);
      entries.push({ buffer: tensor.buffer, offset: byteOffset, size });
      dtypes.push(tensor.dtype);
      variant += `${tensor.dtype} `;
    }
    const { pipelines, recorder } = gpu.context;
    const kernel = pipelines.get(this, variant, () => this.#source(gpu, constants, dtypes));
    const cost = recorder.needsCost ? this.declaration.cost(params, constants) : undefined;
    const pack = (view: DataView) => this.#pack(params, view);
    recorder.dispatch({ kernel, entries, pack, grid, name: this.declaration.name, cost });
  }

  #pack(params: Readonly<Record<P, number>>, view: DataView): void {
    let offset = 0;
    for (const [name, type] of this.#params) {
      if (type === "f32") view.setFloat32(offset, params[name], true);
      else if (type === "u32") view.setUint32(offset, params[name], true);
      else view.setInt32(offset, params[name], true);
      offset += 4;
    }
  }

  /**
   * The prelude is one line, so that the compiler's line numbers are those of the kernel's own
   * text.
   */
  #source(gpu: Gpu, constants: Readonly<Record<C, Constant>>, dtypes: readonly DType[]): string {
    const prelude: string[] = [];
    const { extensions = [] } = this.declaration;
    for (const extension of typeof extensions === "function" ? extensions(constants) : extensions) {
      if (gpu.info.enables.has(extension)) prelude.push(`enable ${extension};`);
    }
    for (const [name, value] of Object.entries<Constant>(constants)) {
      prelude.push(typeof value === "string" ? `alias ${name} = ${value};` : `const ${name} = ${value};`);
    }
    if (this.#params.length > 0) {
      prelude.push(`struct Params { ${this.#params.map(([name, type]) => `${name}: ${type}`).join(", ")} }`);
      prelude.push(`@group(1) @binding(0) var<uniform> params: Params;`);
    }
    this.#bindings.forEach(([name, binding], index) => {
      const access = binding.access === "read" ? "read" : "read_write";
      const lanes = typeof binding.lanes === "string" ? constants[binding.lanes as C] : binding.lanes;
      const { type, accessors } = lanes === undefined
        ? { type: binding.type!, accessors: "" }
        : lanes === 8
        ? eightAccess(this.declaration.name, name, dtypes[index], { ...binding, longWords: gpu.info.longWords })
        : floatAccess(this.declaration.name, name, lanes as number, dtypes[index], binding.access);
      prelude.push(`@group(0) @binding(${index}) var<storage, ${access}> ${name}: ${type}; ${accessors}`);
    });
    const { wgsl } = this.declaration;
    return prelude.join(" ") + "\n" + (typeof wgsl === "string" ? wgsl : wgsl(constants));
  }
}

/** Declares a kernel; the types of `run` follow from the declaration. */
export function declareKernel<B extends string, P extends string, C extends string = never>(
  declaration: KernelDeclaration<B, P, C>,
): Kernel<B, P, C> {
  return new Kernel(declaration);
}

/**
 * A grid of `workgroups` in all, folded over x and y since one axis holds 65,535: the kernel's
 * number is `wid.x + wid.y * num.x`.
 */
export function spread(workgroups: number): Grid {
  const rows = Math.ceil(workgroups / 65535);
  return [rows === 0 ? 0 : Math.ceil(workgroups / rows), rows, 1];
}

/**
 * One number an access, or four. Halves are packed in words, which every device takes; `vec4<f16>`
 * of the feature `shader-f16` was slower on lavapipe, the only device tried: matrix products by an
 * eighth, attention and norms by a quarter.
 */
function floatAccess(
  kernel: string,
  name: string,
  lanes: number,
  dtype: DType,
  access: "read" | "write",
): { type: string; accessors: string } {
  const element = lanes === 4 ? "vec4f" : "f32";
  const at = (type: string, expression: string) => ({
    type: `array<${type}>`,
    accessors: `fn ${name}_at(i: u32) -> ${element} { return ${expression}; }`,
  });
  if (dtype === "f32") {
    const { type, accessors: whole } = at(element, `${name}[i]`);
    const one = (suffix: string, component: string) =>
      `fn ${name}_${suffix}(i: u32) -> f32 { return ${name}[i].${component}; }`;
    const accessors = lanes === 4 ? `${whole} ${one("first", "x")} ${one("last", "w")}` : whole;
    if (access === "read") return { type, accessors };
    return { type, accessors: `${accessors} fn ${name}_put(i: u32, value: ${element}) { ${name}[i] = value; }` };
  }
  if (dtype === "f16" && lanes === 4) {
    const { type, accessors: whole } = at(
      "vec2u",
      `vec4f(unpack2x16float(${name}[i].x), unpack2x16float(${name}[i].y))`,
    );
    const accessors = `${whole} fn ${name}_first(i: u32) -> f32 { return unpack2x16float(${name}[i].x).x; } ` +
      `fn ${name}_last(i: u32) -> f32 { return unpack2x16float(${name}[i].y).y; }`;
    if (access === "read") return { type, accessors };
    const packed = "vec2u(pack2x16float(value.xy), pack2x16float(value.zw))";
    return { type, accessors: `${accessors} fn ${name}_put(i: u32, value: vec4f) { ${name}[i] = ${packed}; }` };
  }
  if (dtype === "f16") {
    if (access === "read") return at("u32", `unpack2x16float(${name}[i / 2u])[i % 2u]`);
    throw new DTypeError(
      `Cannot write ${name} of ${kernel} in f16 as halves are written in fours, and rows that do not divide by four go one by one: use f32`,
    );
  }
  throw new DTypeError(`Cannot bind ${name} to ${kernel} as it takes f32 or f16 numbers: ${dtype}`);
}

/**
 * Eight numbers an access. Where the device scalarises loads ({@linkcode GpuInfo.longWords}), four
 * words of 64 bits: lavapipe pays by access and word, not by byte, and this takes it four fifths of
 * the time of two accesses of four words.
 */
function eightAccess(
  kernel: string,
  name: string,
  dtype: DType,
  { access, longWords }: { access: "read" | "write"; longWords: boolean },
): { type: string; accessors: string } {
  const forms: Partial<Record<DType, Record<"type" | "read" | "write" | "first" | "last", string>>> = {
    f16: {
      type: "vec4u",
      read: `let w = ${name}[i]; return mat2x4f(vec4f(unpack2x16float(w.x), unpack2x16float(w.y)), ` +
        `vec4f(unpack2x16float(w.z), unpack2x16float(w.w)));`,
      write:
        `${name}[i] = vec4u(pack2x16float(v[0].xy), pack2x16float(v[0].zw), pack2x16float(v[1].xy), pack2x16float(v[1].zw));`,
      first: `unpack2x16float(${name}[i].x).x`,
      last: `unpack2x16float(${name}[i].w).y`,
    },
    f32: longWords
      ? {
        type: "vec4<u64>",
        read: `let w = ${name}[i]; let l = bitcast<vec4f>(vec4u(w)); let h = bitcast<vec4f>(vec4u(w >> vec4u(32u))); ` +
          `return mat2x4f(vec4f(l.x, h.x, l.y, h.y), vec4f(l.z, h.z, l.w, h.w));`,
        write: `let l = bitcast<vec4u>(vec4f(v[0].xz, v[1].xz)); let h = bitcast<vec4u>(vec4f(v[0].yw, v[1].yw)); ` +
          `${name}[i] = vec4<u64>(l) | (vec4<u64>(h) << vec4u(32u));`,
        first: `bitcast<f32>(u32(${name}[i].x))`,
        last: `bitcast<f32>(u32(${name}[i].w >> 32u))`,
      }
      : {
        type: "mat2x4f",
        read: `return ${name}[i];`,
        write: `${name}[i] = v;`,
        first: `${name}[i][0].x`,
        last: `${name}[i][1].w`,
      },
  };
  const form = forms[dtype];
  if (!form) throw new DTypeError(`Cannot bind ${name} to ${kernel} as it takes f32 or f16 numbers: ${dtype}`);
  const { type, read, write, first, last } = form;
  const at = `fn ${name}_at(i: u32) -> mat2x4f { ${read} } fn ${name}_first(i: u32) -> f32 { return ${first}; } ` +
    `fn ${name}_last(i: u32) -> f32 { return ${last}; }`;
  return {
    type: `array<${type}>`,
    accessors: access === "read" ? at : `${at} fn ${name}_put(i: u32, v: mat2x4f) { ${write} }`,
  };
}
