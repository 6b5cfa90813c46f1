import { GpuError } from "./errors.ts";

/** The stack of open tensor scopes. */
export class Scopes {
  #current: Set<Disposable> | undefined;

  /** Adds a new tensor to the current scope. */
  adopt(tensor: Disposable): void {
    this.#current?.add(tensor);
  }

  /** Removes a tensor from the current scope. */
  abandon(tensor: Disposable): void {
    this.#current?.delete(tensor);
  }

  /** See {@linkcode Gpu.scope}. */
  run<T>(body: () => T): T {
    const outer = this.#current;
    const inner = this.#current = new Set<Disposable>();
    try {
      const result = body();
      if (result instanceof Promise) {
        throw new GpuError("Cannot keep a scope open across a wait: its body must not be async");
      }
      for (const tensor of this.owned(result)) {
        inner.delete(tensor);
        outer?.add(tensor);
      }
      return result;
    } finally {
      this.#current = outer;
      for (const tensor of inner) tensor[Symbol.dispose]();
    }
  }

  /** Runs `body` as if no scope were open. */
  detached<T>(body: () => T): T {
    const outer = this.#current;
    this.#current = undefined;
    try {
      return body();
    } finally {
      this.#current = outer;
    }
  }

  /**
   * The tensors of the current scope that a value holds: itself, or those in arrays and plain
   * objects, at any depth.
   */
  owned(value: unknown): Set<Disposable> {
    const found = new Set<Disposable>(), seen = new Set<object>();
    const visit = (value: unknown): void => {
      if (value === null || typeof value !== "object" || seen.has(value)) return;
      seen.add(value); // objects may refer to each other
      if (this.#current?.has(value as Disposable)) found.add(value as Disposable);
      else if (Array.isArray(value)) value.forEach(visit);
      else if (Object.getPrototypeOf(value) === Object.prototype) Object.values(value).forEach(visit);
    };
    visit(value);
    return found;
  }
}
