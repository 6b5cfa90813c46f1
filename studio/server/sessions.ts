/** The sessions of the pages that a server draws for. @module */

import { aborted } from "../failure.ts";
import type { ModelPlaces } from "../open_model.ts";
import { type DrawnPicture, type DrawProgress, type Painter, PainterError, type PictureRequest } from "../painter.ts";
import { StudioSession } from "../session.ts";
import { FairQueue } from "./fair_queue.ts";
import type { SharedDevice } from "./shared_device.ts";

/** Pages that may have a model open at once: each has its own on the device. */
const maxSessions = 4;

/** A page's session. */
interface Entry {
  readonly id: string;
  readonly painter: Painter;
  /** Pictures that are drawn or wait for their turn. */
  readonly drawings: Set<AbortController>;
  /** Calls that are carried out. */
  calls: number;
}

/** Options of {@linkcode Sessions}. */
export interface SessionsOptions {
  readonly places: ModelPlaces;
  readonly device: SharedDevice;
}

/**
 * One session for each page, on one device. Pictures of all pages go through one queue. The
 * session that was idle for longest makes room for a new one.
 */
export class Sessions implements AsyncDisposable {
  readonly #options: SessionsOptions;
  readonly #queue = new FairQueue();
  /** By id; the last used stands last. */
  readonly #entries = new Map<string, Entry>();

  constructor(options: SessionsOptions) {
    this.#options = options;
  }

  /**
   * Opens a session for a page.
   *
   * @throws {PainterError} when there are too many, and none is idle
   */
  async create(): Promise<string> {
    if (this.#entries.size >= maxSessions) {
      const idle = [...this.#entries.values()].find(({ calls }) => calls === 0);
      if (idle === undefined) {
        throw new PainterError({
          kind: "input",
          message: `The server draws for ${maxSessions} pages already: close one of them, or wait until it is done`,
        });
      }
      await this.#close(idle);
    }
    const id = crypto.randomUUID();
    const { places, device } = this.#options;
    const session = new StudioSession({
      ...places,
      place: "server",
      gpu: () => device.get(),
      ownsGpu: false,
      otherPages: () => this.#entries.size - 1,
    });
    this.#entries.set(id, { id, painter: session, drawings: new Set(), calls: 0 });
    return id;
  }

  /**
   * Runs a call of a page.
   *
   * @param body gets the page's painter, whose pictures take turns with other pages'
   * @throws {PainterError} of kind "device" for a session that is closed: the page opens another
   */
  async run<T>(id: string, body: (painter: Painter) => Promise<T>): Promise<T> {
    const entry = this.#entries.get(id);
    if (entry === undefined) {
      throw new PainterError({
        kind: "device",
        message: "The server has closed this page's session. The next call opens another one",
      });
    }
    this.#entries.delete(id);
    this.#entries.set(id, entry);
    entry.calls++;
    try {
      return await body(this.#turned(entry));
    } catch (error) {
      if (error instanceof PainterError && error.failure.kind === "device") {
        await this.#options.device.check();
        await this.#close(entry);
      }
      throw error;
    } finally {
      entry.calls--;
    }
  }

  /** Closes a page's session, if it is still open. */
  async close(id: string): Promise<void> {
    const entry = this.#entries.get(id);
    if (entry) await this.#close(entry);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const entry of [...this.#entries.values()]) await this.#close(entry);
  }

  /** A session's painter that draws in turn. */
  #turned(entry: Entry): Painter {
    const { painter, drawings } = entry;
    const stop = (): Promise<void> => {
      for (const drawing of drawings) drawing.abort(aborted());
      return painter.stop();
    };
    const draw = async (
      request: PictureRequest,
      onProgress: (progress: DrawProgress) => void,
    ): Promise<DrawnPicture> => {
      const drawing = new AbortController();
      drawings.add(drawing);
      const { steps } = request.settings;
      try {
        return await this.#queue.run(entry.id, () => painter.draw(request, onProgress), {
          signal: drawing.signal,
          onWaiting: (waiting) => onProgress({ step: 0, steps, waiting }),
        });
      } finally {
        drawings.delete(drawing);
      }
    };
    return new Proxy(painter, {
      get: (target, name: keyof Painter) => {
        if (name === "stop") return stop;
        if (name === "draw") return draw;
        const member = target[name];
        return typeof member === "function" ? member.bind(target) : member;
      },
    });
  }

  async #close(entry: Entry): Promise<void> {
    if (!this.#entries.delete(entry.id)) return;
    for (const drawing of entry.drawings) drawing.abort(aborted());
    await entry.painter.close().catch(() => {}); // its device may be gone
  }
}
