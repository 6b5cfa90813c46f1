/**
 * Explicit resource management for browsers without it, such as Safari 26. A static build loads
 * this before all other scripts, in which `using` is lowered.
 *
 * @module
 */

// First: classes have methods of these names.
for (const name of ["dispose", "asyncDispose"] as const) {
  if (typeof Symbol[name] !== "symbol") Object.defineProperty(Symbol, name, { value: Symbol(`Symbol.${name}`) });
}

/** `DisposableStack` as far as the engine uses it. */
export class Stack implements Disposable {
  #disposers: (() => void)[] = [];
  #disposed = false;

  get disposed(): boolean {
    return this.#disposed;
  }

  use<T extends Disposable | null | undefined>(value: T): T {
    const disposer = value?.[Symbol.dispose];
    if (value != null && typeof disposer !== "function") throw new TypeError("The value has no [Symbol.dispose]()");
    if (value != null) this.defer(() => disposer!.call(value));
    return value;
  }

  adopt<T>(value: T, onDispose: (value: T) => void): T {
    this.defer(() => onDispose(value));
    return value;
  }

  defer(onDispose: () => void): void {
    if (this.#disposed) throw new ReferenceError("The stack is disposed");
    this.#disposers.push(onDispose);
  }

  move(): Stack {
    if (this.#disposed) throw new ReferenceError("The stack is disposed");
    const next = new Stack();
    next.#disposers = this.#disposers;
    this.#disposers = [];
    this.#disposed = true;
    return next;
  }

  dispose(): void {
    if (this.#disposed) return;
    this.#disposed = true;
    const errors: unknown[] = [];
    for (const dispose of this.#disposers.toReversed()) {
      try {
        dispose();
      } catch (error) {
        errors.push(error);
      }
    }
    this.#disposers = [];
    if (errors.length > 0) throw errors.reduce((suppressed, error) => suppressing(error, suppressed));
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  get [Symbol.toStringTag](): string {
    return "DisposableStack";
  }
}

/** A `SuppressedError`, where there is that class; otherwise an error of the same form. */
function suppressing(error: unknown, suppressed: unknown): Error {
  if (typeof SuppressedError === "function") return new SuppressedError(error, suppressed);
  return Object.assign(new Error("An error was suppressed during disposal"), {
    name: "SuppressedError",
    error,
    suppressed,
  });
}

if (typeof globalThis.DisposableStack !== "function") {
  Object.defineProperty(globalThis, "DisposableStack", { value: Stack, writable: true, configurable: true });
}
