/** A painter in a worker of this browser. @module */

import { proxy, type Remote, wrap } from "comlink";
import { type Painter, PainterError } from "../painter.ts";
import {
  ForwardingPainter,
  type OnProgress,
  type PainterCall,
  type PainterMethod,
  type ResultOf,
} from "./forwarding_painter.ts";
import { RecoveringPainter } from "./recovering_painter.ts";
import { valueOf } from "./reply.ts";
import type { WorkerLink } from "./worker.ts";

/** Options of {@linkcode workerPainter}. */
export interface WorkerPainterOptions {
  /** Starts the worker, a module worker that runs `worker.ts`. */
  readonly worker: () => Worker;
  /** Address of the embedded model's folder. */
  readonly pocket: URL;
  /** Whether its weights are packed, as a static build has them. Default: false. */
  readonly isPacked?: boolean;
}

/**
 * The painter of a browser with WebGPU. A worker that stops, or whose device is lost, is replaced
 * at the next call.
 *
 * ```ts
 * const worker = () => new Worker(new URL("./worker.js", import.meta.url), { type: "module" });
 * const painter = workerPainter({ worker, pocket: new URL("pocket/", location.href) });
 * ```
 */
export function workerPainter(options: WorkerPainterOptions): Painter {
  return new RecoveringPainter("browser", () => new WorkerPainter(options));
}

/** One worker. Calls that it has not answered fail when it stops. */
class WorkerPainter extends ForwardingPainter {
  override readonly place = "browser";
  readonly #worker: Worker;
  readonly #link: Remote<WorkerLink>;
  /** Rejects when the worker stops. */
  readonly #stopped: Promise<never>;
  readonly #started: Promise<void>;

  constructor({ worker, pocket, isPacked = false }: WorkerPainterOptions) {
    super();
    this.#worker = worker();
    this.#link = wrap<WorkerLink>(this.#worker);
    const { promise, reject } = Promise.withResolvers<never>();
    this.#stopped = promise;
    this.#stopped.catch(() => {}); // calls report it
    const fail = (event: Event): void => {
      event.preventDefault(); // an error that nobody handles would end Deno
      const reason = event instanceof ErrorEvent && event.message !== "" ? `: ${event.message}` : "";
      const message = `The worker that draws has stopped${reason}. The next call starts another one`;
      reject(new PainterError({ kind: "device", message }));
    };
    this.#worker.addEventListener("error", fail);
    this.#worker.addEventListener("messageerror", fail);
    this.#started = Promise.race([this.#link.start({ pocket: pocket.href, isPacked }), this.#stopped]);
    this.#started.catch(() => {});
  }

  protected override async call<M extends PainterMethod>(
    call: PainterCall<M>,
    onProgress?: OnProgress,
  ): Promise<ResultOf<M>> {
    if (call.method === "close") { // the device goes with the worker
      this.#worker.terminate();
      return undefined as ResultOf<M>;
    }
    await this.#started;
    const reply = this.#link.call(call, onProgress && proxy(onProgress));
    return valueOf(await Promise.race([reply, this.#stopped])) as ResultOf<M>;
  }
}
