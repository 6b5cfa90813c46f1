/** What a kept value depends on. Parts are compared one by one, objects by identity. */
export type Key = readonly unknown[];

/** A value taken out of a {@linkcode KeyedSlot}, for the time of its use. */
export interface Lease<T> extends Disposable {
  readonly value: T;
  /** Puts the value back at the end of its use. Otherwise it is freed. */
  keep(): void;
}

/**
 * Keeps the last value that was made, to use it again while its key stays the same. A value in use
 * is out of the slot, so that concurrent users never share one.
 */
export class KeyedSlot<T extends Disposable> implements Disposable {
  #kept: { readonly key: Key; readonly value: T } | undefined;
  /** Values taken before the last {@linkcode clear} do not come back. */
  #epoch = 0;

  /**
   * The kept value if its key is `key`, else a new one. A kept value of another key is freed first.
   *
   * @param key `undefined` for a value that must not be kept
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

  /** Frees the kept value, and those in use when their use ends. */
  clear(): void {
    this.#epoch++;
    this.#kept?.value[Symbol.dispose]();
    this.#kept = undefined;
  }

  [Symbol.dispose](): void {
    this.clear();
  }
}

/** Whether two keys have the same parts in the same order. */
export function sameKey(a: Key, b: Key): boolean {
  return a.length === b.length && a.every((part, i) => Object.is(part, b[i]));
}
