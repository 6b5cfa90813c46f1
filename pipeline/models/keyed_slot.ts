/** Everything that a cached value depends on. Elements are compared by `Object.is`. */
export type Key = readonly unknown[];

/** A value taken from a {@linkcode KeyedSlot}. Disposing of the lease ends its use. */
export interface Lease<T> extends Disposable {
  readonly value: T;
  /** Returns the value to the slot when the lease ends. Without this call it is freed. */
  keep(): void;
}

/**
 * A cache of one value. It is reused while its key stays the same. While a value is in use, it is
 * not in the slot, so concurrent users never share a value.
 */
export class KeyedSlot<T extends Disposable> implements Disposable {
  #kept: { readonly key: Key; readonly value: T } | undefined;
  /** Incremented by {@linkcode clear}. Values of an earlier epoch are not returned to the slot. */
  #epoch = 0;

  /**
   * Takes the cached value if its key equals `key`. Otherwise, also for an undefined key, frees it
   * and makes a new value: two at once would take twice the memory.
   *
   * @param key `undefined` for a value that must not be cached
   */
  take(key: Key | undefined, make: () => T): Lease<T> {
    const kept = this.#kept;
    const isSame = kept !== undefined && key !== undefined && sameKey(kept.key, key);
    this.#kept = undefined;
    if (!isSame) kept?.value[Symbol.dispose]();
    const value = isSame ? kept.value : make();
    const epoch = this.#epoch;
    let comesBack = false;
    return {
      value,
      keep: () => void (comesBack = true),
      [Symbol.dispose]: () => {
        if (!comesBack || key === undefined || epoch !== this.#epoch) return value[Symbol.dispose]();
        this.#kept?.value[Symbol.dispose]();
        this.#kept = { key, value };
      },
    };
  }

  /** Frees the cached value. Values in use are freed when their leases end. */
  clear(): void {
    this.#epoch++;
    this.#kept?.value[Symbol.dispose]();
    this.#kept = undefined;
  }

  [Symbol.dispose](): void {
    this.clear();
  }
}

/** Whether two keys have the same elements in the same order. */
export function sameKey(a: Key, b: Key): boolean {
  return a.length === b.length && a.every((part, i) => Object.is(part, b[i]));
}
