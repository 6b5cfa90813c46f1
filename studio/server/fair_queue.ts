/** Turns at one device. @module */

/** A task that waits. */
interface Waiting {
  readonly start: () => void;
  readonly onWaiting: (ahead: number) => void;
}

/**
 * Runs tasks one after another. Owners take turns: one that queues ten tasks delays another one's
 * first task by one.
 */
export class FairQueue {
  /** Owners in the order of their turns, each with its tasks. */
  readonly #waiting = new Map<string, Waiting[]>();
  #isBusy = false;

  /**
   * Runs `task` in its turn.
   *
   * @param options.onWaiting called with the number of tasks that run first, whenever it changes
   * @param options.signal removes a task that has not begun; `run` then rejects with its reason
   */
  async run<T>(
    owner: string,
    task: () => Promise<T>,
    { onWaiting = () => {}, signal }: { onWaiting?: (ahead: number) => void; signal?: AbortSignal } = {},
  ): Promise<T> {
    signal?.throwIfAborted();
    if (this.#isBusy) await this.#turn(owner, onWaiting, signal);
    this.#isBusy = true;
    try {
      return await task();
    } finally {
      this.#next();
    }
  }

  /** Waits for a turn. */
  #turn(owner: string, onWaiting: (ahead: number) => void, signal?: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      const abort = (): void => {
        this.#remove(owner, waiting);
        this.#announce();
        reject(signal!.reason);
      };
      const waiting: Waiting = {
        start: () => {
          signal?.removeEventListener("abort", abort);
          resolve();
        },
        onWaiting,
      };
      signal?.addEventListener("abort", abort, { once: true });
      const tasks = this.#waiting.get(owner) ?? [];
      this.#waiting.set(owner, [...tasks, waiting]);
      this.#announce();
    });
  }

  /** Starts the next task: the first of the owner whose turn it is. */
  #next(): void {
    const [first] = this.#waiting;
    if (first === undefined) {
      this.#isBusy = false;
      return;
    }
    const [owner, [waiting, ...rest]] = first;
    this.#waiting.delete(owner);
    if (rest.length > 0) this.#waiting.set(owner, rest); // behind the others
    waiting.start();
    this.#announce();
  }

  #remove(owner: string, waiting: Waiting): void {
    const rest = this.#waiting.get(owner)!.filter((other) => other !== waiting);
    if (rest.length > 0) this.#waiting.set(owner, rest);
    else this.#waiting.delete(owner);
  }

  /** Tells all who wait how many run before them, the running one included. */
  #announce(): void {
    const queues = [...this.#waiting.values()];
    const rounds = Math.max(0, ...queues.map((tasks) => tasks.length));
    let ahead = 1;
    for (let round = 0; round < rounds; round++) {
      for (const tasks of queues) {
        if (round < tasks.length) tasks[round].onWaiting(ahead++);
      }
    }
  }
}
