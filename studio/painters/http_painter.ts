/**
 * A painter on the server, over HTTP. A call is a POST; its answer is a stream of lines, which
 * report progress and end with the result or the failure.
 *
 * @module
 */

import { type DroppedContent, type Painter, PainterError } from "../painter.ts";
import {
  ForwardingPainter,
  type OnProgress,
  type PainterCall,
  type PainterMethod,
  type ResultOf,
} from "./forwarding_painter.ts";
import { linesOf } from "./lines.ts";
import { RecoveringPainter } from "./recovering_painter.ts";
import { type Reply, valueOf } from "./reply.ts";
import { decodeWire, encodeWire } from "./wire.ts";

/** What a server says of itself. */
export interface ServerFacts {
  /** The version of the package. */
  readonly version: string;
  /** The name of the model that it was started with, if there is one. */
  readonly model: string | null;
}

/** Names that server and page agree on. */
export const protocol = {
  /** Media type of a call. */
  callType: "application/json",
  /** Header with the page's session. */
  sessionHeader: "x-studio-session",
} as const;

/**
 * Asks whether the page is served by a studio's server.
 *
 * @param api address of the interface, with "/" at its end: `new URL("api/", location.href)`
 * @returns facts of the server; undefined for a static host
 */
export async function findServer(api: URL): Promise<ServerFacts | undefined> {
  try {
    const response = await fetch(new URL("facts", api));
    if (!response.ok || !response.headers.get("content-type")?.startsWith("application/json")) return undefined;
    return await response.json();
  } catch {
    return undefined;
  }
}

/** The painter of a studio's server. A session that the server has closed is opened again. */
export function serverPainter(api: URL): Painter {
  return new RecoveringPainter("server", () => new HttpPainter(api));
}

/** One session on the server. */
class HttpPainter extends ForwardingPainter {
  override readonly place = "server";
  readonly #api: URL;
  #session: Promise<string> | undefined;

  constructor(api: URL) {
    super();
    this.#api = api;
  }

  /** Read here: nothing is sent. */
  override async read(file: Blob, name: string): Promise<DroppedContent> {
    const [{ readDropped }, { failing }] = await Promise.all([import("../dropped.ts"), import("../failure.ts")]);
    return await failing(() => readDropped(file, name));
  }

  protected override async call<M extends PainterMethod>(
    { method, args }: PainterCall<M>,
    onProgress?: OnProgress,
  ): Promise<ResultOf<M>> {
    if (method === "open" || method === "estimate") refuseFiles(args[0]);
    const [first, name] = args;
    const isUpload = method === "useLora" && first instanceof Blob;
    const path = isUpload ? `lora?name=${encodeURIComponent(String(name))}` : `call/${method}`;
    const response = await this.#post(path, {
      headers: {
        "content-type": isUpload ? "application/octet-stream" : protocol.callType,
        [protocol.sessionHeader]: await this.#open(),
      },
      body: isUpload ? first : encodeWire(args),
    });
    for await (const line of reported(linesOf(response.body!))) {
      const message = decodeWire(line) as Reply | { readonly progress: never[] };
      if (!("progress" in message)) return valueOf(message) as ResultOf<M>;
      onProgress?.(...message.progress);
    }
    throw unreachable("the answer ended early");
  }

  async #open(): Promise<string> {
    this.#session ??= this.#post("session").then((response) => response.text());
    try {
      return await this.#session;
    } catch (error) {
      this.#session = undefined; // the next call may reach the server
      throw error;
    }
  }

  async #post(path: string, init: RequestInit = {}): Promise<Response> {
    let response: Response;
    try {
      response = await fetch(new URL(path, this.#api), { method: "POST", ...init });
    } catch (cause) {
      throw unreachable(cause);
    }
    if (response.ok && response.body) return response;
    const text = await response.text().catch(() => "");
    throw new PainterError({ kind: "network", message: text || `The server answered with status ${response.status}` });
  }
}

/** Lines whose errors are the network's. */
async function* reported(lines: AsyncIterable<string>): AsyncGenerator<string> {
  try {
    yield* lines;
  } catch (cause) {
    throw cause instanceof PainterError ? cause : unreachable(cause);
  }
}

function unreachable(cause: unknown): PainterError {
  const reason = cause instanceof Error ? cause.message : String(cause);
  return new PainterError({
    kind: "network",
    message: `The server cannot be reached (${reason}): is bluerose studio still running?`,
  }, { cause });
}

function refuseFiles(choice: unknown): void {
  const { kind } = choice as { kind: string };
  if (kind !== "folder" && kind !== "file") return;
  throw new PainterError({
    kind: "input",
    message: "The server opens its own models only: start it with bluerose studio --model DIR, " +
      "or draw in this browser",
  });
}
