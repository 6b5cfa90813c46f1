import type { DeviceContext } from "../context.ts";
import { KernelError } from "../errors.ts";
import type { Binding } from "./declaration.ts";

/** What the cache needs of a kernel, which is also its key. */
interface Compilable {
  readonly declaration: { readonly name: string };
  readonly accesses: readonly Binding["access"][];
}

/** The text of one variant of a kernel, independent of any device. */
interface KernelSource {
  readonly name: string;
  /** Constants and storage types. */
  readonly variant: string;
  /** The complete WGSL, with the generated prelude. */
  readonly code: string;
  /** How each binding is accessed. */
  readonly accesses: readonly Binding["access"][];
}

/** A compiled variant of a kernel: one set of constants and storage types on one device. */
export interface CompiledKernel extends KernelSource {
  readonly pipeline: GPUComputePipeline;
  readonly layout: NumberedLayout;
  readonly id: number;
  /**
   * Host time to create the pipeline, in milliseconds. Drivers compile then, or at the first
   * dispatch.
   */
  readonly createMs: number;
}

/**
 * A bind group layout. Kernels whose bindings have the same accesses in the same order share one,
 * and therefore share the bind groups of equal buffers.
 */
export interface NumberedLayout {
  readonly layout: GPUBindGroupLayout;
  readonly id: number;
}

/** The compiled kernels of one device, by kernel and variant. */
export class PipelineCache {
  readonly #context: DeviceContext;
  readonly #compiled = new Map<Compilable, Map<string, CompiledKernel>>();
  readonly #layouts = new Map<string, NumberedLayout>();
  /** Called with a kernel's name before it is compiled. */
  readonly listeners: Set<(kernel: string) => void> = new Set();
  #nextId = 0;

  constructor(context: DeviceContext) {
    this.#context = context;
  }

  /** All variants compiled so far. */
  get all(): CompiledKernel[] {
    return [...this.#compiled.values()].flatMap((variants) => [...variants.values()]);
  }

  /**
   * The compiled variant of a kernel. Compiles it on first use, from the WGSL that `code` makes.
   */
  get(kernel: Compilable, variant: string, code: () => string): CompiledKernel {
    let variants = this.#compiled.get(kernel);
    if (!variants) this.#compiled.set(kernel, variants = new Map());
    let compiled = variants.get(variant);
    if (!compiled) {
      const { declaration: { name }, accesses } = kernel;
      // A kernel that failed is compiled again at its next use, so that each use reports the error.
      const failed = () => variants.delete(variant);
      compiled = this.#compile({ name, variant: variant.trimEnd(), code: code(), accesses }, failed);
      variants.set(variant, compiled);
    }
    return compiled;
  }

  /** Compiles a kernel again, from the source of one that this or another device compiled. */
  recompile({ name, variant, code, accesses }: KernelSource): CompiledKernel {
    return this.#compile({ name, variant, code, accesses }, () => {});
  }

  #compile(source: KernelSource, failed: () => void): CompiledKernel {
    const { device, paramsLayout } = this.#context;
    const { name, code, accesses } = source;
    for (const listener of this.listeners) listener(name);
    const started = performance.now();
    const layout = this.#layout(accesses);
    const pipeline = this.#context.guarded(
      `compile the kernel ${name}`,
      () =>
        device.createComputePipeline({
          label: name,
          layout: device.createPipelineLayout({ bindGroupLayouts: [layout.layout, paramsLayout] }),
          compute: { module: device.createShaderModule({ label: name, code }), entryPoint: "main" },
        }),
      { wrap: (message) => new KernelError(message, code), failed },
    );
    return { ...source, pipeline, layout, id: this.#nextId++, createMs: performance.now() - started };
  }

  #layout(accesses: readonly Binding["access"][]): NumberedLayout {
    const key = accesses.join();
    let layout = this.#layouts.get(key);
    if (!layout) {
      const created = this.#context.device.createBindGroupLayout({
        entries: accesses.map((access, binding) => ({
          binding,
          visibility: GPUShaderStage.COMPUTE,
          buffer: { type: access === "read" ? "read-only-storage" : "storage" },
        })),
      });
      this.#layouts.set(key, layout = { layout: created, id: this.#layouts.size });
    }
    return layout;
  }
}
