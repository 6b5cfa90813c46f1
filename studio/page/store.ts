/**
 * The page's one store: a signal that holds the state, changed by pure actions only.
 *
 * @module
 */

import { type ReadonlySignal, type Signal, signal } from "@preact/signals";
import type { State } from "./state.ts";

/** Holds the state. Readers subscribe by reading {@linkcode Store.state}. */
export class Store {
  readonly #state: Signal<State>;

  constructor(initial: State) {
    this.#state = signal(initial);
  }

  /** The state, as a signal. */
  get state(): ReadonlySignal<State> {
    return this.#state;
  }

  /** The state now, without subscribing. */
  get now(): State {
    return this.#state.peek();
  }

  /** Replaces the state by what an action makes of it. */
  dispatch<A extends readonly unknown[]>(action: (state: State, ...args: A) => State, ...args: A): void {
    this.#state.value = action(this.#state.peek(), ...args);
  }
}
