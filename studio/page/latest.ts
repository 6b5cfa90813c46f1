/** Questions of which only the newest matters. @module */

/**
 * Asks one question at a time. A question that comes while another is being answered replaces the
 * one that waits.
 */
export class Latest<T> {
  readonly #ask: (question: T, isLatest: () => boolean) => Promise<void>;
  #wanted: { question: T } | undefined;
  #run: Promise<void> | undefined;

  /** @param ask answers a question; `isLatest` says whether none has come since */
  constructor(ask: (question: T, isLatest: () => boolean) => Promise<void>) {
    this.#ask = ask;
  }

  /** Asks now, or as soon as the question before is answered. */
  want(question: T): void {
    this.#wanted = { question };
    this.#run ??= this.#answer();
  }

  /** Settles when no question is left. */
  get idle(): Promise<void> {
    return this.#run ?? Promise.resolve();
  }

  async #answer(): Promise<void> {
    try {
      while (this.#wanted !== undefined) {
        const { question } = this.#wanted;
        this.#wanted = undefined;
        await this.#ask(question, () => this.#wanted === undefined);
      }
    } finally {
      this.#run = undefined;
    }
  }
}
