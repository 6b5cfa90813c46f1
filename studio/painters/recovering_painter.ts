/** A painter that outlives its device. @module */

import { type ModelChoice, type Painter, PainterError } from "../painter.ts";
import {
  callPainter,
  ForwardingPainter,
  type OnProgress,
  type PainterCall,
  type PainterMethod,
  type ResultOf,
} from "./forwarding_painter.ts";

/** A painter that is in use, and when its model is open again. */
interface Running {
  readonly painter: Painter;
  readonly ready: Promise<void>;
}

/**
 * Makes a painter at the first call, and another one at the next call after a failure of kind
 * "device": a lost device, a stopped worker, or memory that ran out. The new one opens the same
 * model and its LoRAs. A model that cannot be opened leaves the one before it open.
 */
export class RecoveringPainter extends ForwardingPainter {
  override readonly place: Painter["place"];
  readonly #start: () => Painter;
  #running: Running | undefined;
  #choice: ModelChoice | undefined;
  #loras: { file: Blob; name: string }[] = [];

  /** @param start makes a painter; called again after a failure */
  constructor(place: Painter["place"], start: () => Painter) {
    super();
    this.place = place;
    this.#start = start;
  }

  protected override async call<M extends PainterMethod>(
    call: PainterCall<M>,
    onProgress?: OnProgress,
  ): Promise<ResultOf<M>> {
    const run = async (): Promise<ResultOf<M>> =>
      await this.#run((painter) => callPainter(painter, call, onProgress)) as ResultOf<M>;
    switch (call.method as PainterMethod) {
      case "open":
        return await this.#open(call.args[0] as ModelChoice, run);
      case "useLora": {
        const [file, name] = call.args as [Blob | null, string];
        const result = await run();
        this.#loras = file === null ? [] : [...this.#loras, { file, name }];
        return result;
      }
      case "stop": // nothing is drawn where no painter runs
        await this.#running?.painter.stop();
        return undefined as ResultOf<M>;
      case "close": {
        const running = this.#running;
        this.#running = undefined;
        this.#choice = undefined;
        this.#loras = [];
        await running?.painter.close();
        return undefined as ResultOf<M>;
      }
      default:
        return await run();
    }
  }

  async #open<T>(choice: ModelChoice, run: () => Promise<T>): Promise<T> {
    const [before, loras] = [this.#choice, this.#loras];
    this.#choice = undefined; // a new painter would open it in vain
    this.#loras = [];
    try {
      const facts = await run();
      this.#choice = choice;
      return facts;
    } catch (error) {
      this.#choice = before;
      this.#loras = loras;
      const painter = this.#running?.painter;
      if (painter) this.#running = { painter, ready: this.#reopen(painter) };
      throw error;
    }
  }

  async #run<T>(body: (painter: Painter) => Promise<T>): Promise<T> {
    const running = this.#running ??= this.#started();
    let isReady = false;
    try {
      await running.ready;
      isReady = true;
      return await body(running.painter);
    } catch (error) {
      const isLost = !isReady || error instanceof PainterError && error.failure.kind === "device";
      if (isLost && this.#running === running) {
        this.#running = undefined;
        await running.painter.close().catch(() => {}); // its device may be gone
      }
      throw error;
    }
  }

  #started(): Running {
    const painter = this.#start();
    return { painter, ready: this.#reopen(painter) };
  }

  async #reopen(painter: Painter): Promise<void> {
    if (this.#choice === undefined) return;
    await painter.open(this.#choice, () => {});
    for (const { file, name } of this.#loras) await painter.useLora(file, name);
  }
}
