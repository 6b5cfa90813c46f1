/**
 * The worker of the page: a session behind messages. The page starts it as a module worker, and
 * `workerPainter()` talks to it.
 *
 * @module
 */

import { expose } from "comlink";
import { speakAs } from "../../pipeline/advice.ts";
import { StudioSession } from "../session.ts";
import { studioWords } from "../words.ts";
import { callPainter, type OnProgress, type PainterCall } from "./forwarding_painter.ts";
import { type Reply, replyOf } from "./reply.ts";

speakAs(studioWords);
let session: StudioSession | undefined;

/** Where the embedded model lies. */
export interface PocketPlace {
  /** Address of its folder. */
  readonly pocket: string;
  /** Whether its weights are packed, as a static build has them. */
  readonly isPacked: boolean;
}

/** What the worker offers. */
const link = {
  /** Makes the session. */
  start({ pocket, isPacked }: PocketPlace): void {
    session = new StudioSession({ place: "browser", pocket: new URL(pocket), isPacked });
  },
  /** Carries out a call. `onProgress` is a proxy of the page's callback. */
  async call(call: PainterCall, onProgress?: OnProgress): Promise<Reply> {
    return await replyOf(() => callPainter(session!, call, onProgress));
  },
};

/** The worker's interface, for the page's side. */
export type WorkerLink = typeof link;

expose(link);
