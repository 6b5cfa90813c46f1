import type { DType } from "../dtype.ts";
import { GpuError, KernelError, ShapeError } from "../errors.ts";
import type { Gpu } from "../gpu.ts";
import { largestAccess, roundUp } from "../memory/pool.ts";
import { checkDevice, Tensor, type TensorWindow } from "../tensor.ts";
import { accessorsOf } from "./accessors.ts";
import {
  type Binding,
  type ConstantType,
  type ConstantTypes,
  type ConstantValues,
  type KernelDeclaration,
  mostWorkgroups,
  type NoConstants,
  type Scalar,
} from "./declaration.ts";

export {
  type Binding,
  type ConstantType,
  type ConstantTypes,
  type ConstantValue,
  type ConstantValues,
  type Cost,
  type Grid,
  input,
  type KernelDeclaration,
  mostWorkgroups,
  output,
  type Scalar,
  spread,
  storage,
} from "./declaration.ts";

/** A comment, or the head of the entry point up to its body. */
const commentOrEntryPoint = /\/\/.*|\/\*[^]*?\*\/|\bfn\s+main\s*\([^{]*\{/g;

/** The text of a kernel whose entry point begins with a statement. */
const beginningWith = (statement: string, text: string) =>
  text.replace(commentOrEntryPoint, (match) => match.startsWith("/") ? match : `${match} ${statement}`);

/** A comment, or the type of a pointer to the uniform buffer. */
const commentOrUniformPointer = /\/\/.*|\/\*[^]*?\*\/|\bptr\s*<\s*uniform\b/g;

/** A kernel. It is compiled at its first run, once per device, set of constants and dtypes. */
export class Kernel<
  B extends string = string,
  P extends string = string,
  C extends ConstantTypes = NoConstants,
> {
  /** The declaration that the kernel was made from. */
  readonly declaration: KernelDeclaration<B, P, C>;
  /** How each binding is accessed. */
  readonly accesses: readonly Binding["access"][];
  readonly #bindings: readonly (readonly [B, Binding])[];
  readonly #params: readonly (readonly [P, Scalar])[];
  readonly #constants: readonly (readonly [keyof C & string, ConstantType])[];

  /** Makes a kernel of a declaration, without compiling it. */
  constructor(declaration: KernelDeclaration<B, P, C>) {
    this.declaration = declaration;
    this.#bindings = Object.entries<Binding>(declaration.bindings) as [B, Binding][];
    this.accesses = this.#bindings.map(([, { access }]) => access);
    this.#params = Object.entries<Scalar>(declaration.params) as [P, Scalar][];
    this.#constants = Object.entries<ConstantType>(declaration.constants ?? {}) as [keyof C & string, ConstantType][];
  }

  /**
   * Records one dispatch. Nothing is submitted yet.
   *
   * @throws {DTypeError} when a tensor's dtype does not suit its binding
   * @throws {ShapeError} when a tensor is larger than the device can bind, or the grid is none
   * @throws {GpuError} when a tensor is missing, disposed of or another device's, and when a
   *   param is no number
   * @throws {KernelError} when a function takes a pointer to the params. Also when the WGSL does
   *   not compile: that is thrown by the next wait, because WebGPU reports it later
   */
  run(
    gpu: Gpu,
    tensors: Readonly<Record<B, Tensor | TensorWindow>>,
    params: Readonly<Record<P, number>>,
    constants: ConstantValues<C> = {} as ConstantValues<C>,
  ): void {
    const grid = this.declaration.grid(params, constants);
    const isCount = (count: number) => Number.isInteger(count) && count >= 0;
    if (grid.every(isCount) && grid.includes(0)) return; // nothing to write
    if (!grid.every((count) => isCount(count) && count <= mostWorkgroups)) {
      throw new ShapeError(
        `Cannot run ${this.declaration.name} on ${grid.join(" × ")} workgroups as ${
          grid.every(isCount)
            ? `an axis holds ${mostWorkgroups}: divide its operands`
            : "these must be whole numbers of at least 0: check its params and constants"
        }`,
        Object.values<Tensor | TensorWindow>(tensors).map((bound) =>
          (bound instanceof Tensor ? bound : bound.tensor).shape
        ),
      );
    }
    for (const [name, type] of this.#params) {
      const value: unknown = params[name];
      if (typeof value === "number" && (type === "f32" || !Number.isNaN(value))) continue;
      throw new GpuError(`Cannot run ${this.declaration.name} as ${name} must be a number: ${value}`);
    }
    let variant = "";
    for (const [name] of this.#constants) variant += `${name}=${constants[name]} `;
    const entries: GPUBufferBinding[] = [];
    const dtypes: DType[] = [];
    const { limits } = gpu.info;
    for (const [name] of this.#bindings) {
      const bound: Tensor | TensorWindow | undefined = tensors[name];
      if (bound === undefined) {
        throw new GpuError(`Cannot run ${this.declaration.name} without a tensor for its binding ${name}`);
      }
      const { tensor, byteOffset, bytes } = bound instanceof Tensor
        ? { tensor: bound, byteOffset: 0, bytes: bound.bytes }
        : bound;
      checkDevice(gpu, tensor, `bind ${name}`);
      if (bytes > limits.maxStorageBufferBindingSize) {
        throw new ShapeError(
          `Cannot bind ${name} [${
            tensor.shape.join(", ")
          }] to ${this.declaration.name} as this device binds ${limits.maxStorageBufferBindingSize} bytes at most: ${bytes}`,
          [tensor.shape],
        );
      }
      // An empty window may begin at the buffer's end, where nothing is left to bind.
      const offset = bytes === 0 ? 0 : byteOffset;
      const size = Math.min(roundUp(Math.max(bytes, largestAccess), 16), tensor.buffer.size - offset);
      entries.push({ buffer: tensor.buffer, offset, size });
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

  /** The prelude is one line, so that the compiler's line numbers match the kernel's own text. */
  #source(gpu: Gpu, constants: ConstantValues<C>, dtypes: readonly DType[]): string {
    const { name: kernel, extensions = [], wgsl } = this.declaration;
    // In loops, lavapipe gathers a uniform lane by lane, so the params are copied before any loop.
    const copiesParams = gpu.info.copiesParams && this.#params.length > 0;
    const enabled = (typeof extensions === "function" ? extensions(constants) : extensions)
      .filter((extension) => gpu.info.enables.has(extension));
    const prelude = enabled.map((extension) => `enable ${extension};`);
    for (const [name, type] of this.#constants) {
      if (type === "type") prelude.push(`alias ${name} = ${constants[name]};`);
      else if (typeof type === "string") prelude.push(`const ${name} = ${constants[name]};`);
    }
    if (this.#params.length > 0) {
      prelude.push(`struct Params { ${this.#params.map(([name, type]) => `${name}: ${type}`).join(", ")} }`);
      prelude.push(`@group(1) @binding(0) var<uniform> ${copiesParams ? "bound_params" : "params"}: Params;`);
      if (copiesParams) prelude.push("var<private> params: Params;");
    }
    this.#bindings.forEach(([name, binding], index) => {
      const access = binding.access === "read" ? "read" : "read_write";
      const { vectorWidth } = binding;
      const width = typeof vectorWidth === "string" ? Number(constants[vectorWidth]) : vectorWidth;
      const { type, accessors } = width === undefined
        ? { type: binding.type!, accessors: "" }
        : accessorsOf(kernel, name, dtypes[index], {
          width: width as 1 | 4 | 8,
          access: binding.access,
          longWords: gpu.info.longWords,
          hasF16: enabled.includes("f16"),
        });
      prelude.push(`@group(0) @binding(${index}) var<storage, ${access}> ${name}: ${type}; ${accessors}`);
    });
    const text = typeof wgsl === "string" ? wgsl : wgsl(constants);
    // Refused on all devices, so that authors meet it on theirs.
    if (text.match(commentOrUniformPointer)?.some((match) => !match.startsWith("/"))) {
      throw new KernelError(
        `Cannot compile the kernel ${kernel} as one of its functions takes a pointer to the params (ptr<uniform, …>), which ` +
          "are copied into a private variable on software devices: pass params.NAME by value, or read it in the function",
        text,
      );
    }
    return prelude.join(" ") + "\n" + (copiesParams ? beginningWith("params = bound_params;", text) : text);
  }
}

/**
 * Declares a kernel. The argument types of `run` follow from the declaration.
 *
 * ```ts
 * const scale = declareKernel({
 *   name: "scale",
 *   bindings: { x: input(4), y: output(4) },
 *   params: { count: "u32", factor: "f32" },
 *   constants: { LANES: "u32" },
 *   wgsl: `
 * @compute @workgroup_size(LANES)
 * fn main(
 *   @builtin(workgroup_id) group: vec3u,
 *   @builtin(num_workgroups) groups: vec3u,
 *   @builtin(local_invocation_index) lane: u32,
 * ) {
 *   let i = (group.x + group.y * groups.x) * LANES + lane;
 *   if (i < params.count) { y_put(i, params.factor * x_at(i)); }
 * }`,
 *   grid: ({ count }, { LANES }) => spread(Math.ceil(count / LANES)),
 *   cost: ({ count }) => ({ flops: 4 * count, bytes: 32 * count }),
 * });
 * ```
 */
export function declareKernel<
  B extends string,
  P extends string,
  const C extends ConstantTypes = NoConstants,
>(declaration: KernelDeclaration<B, P, C>): Kernel<B, P, C> {
  return new Kernel(declaration);
}
