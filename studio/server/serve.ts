/** Runs the server. @module */

import config from "../../deno.json" with { type: "json" };
import type { Gpu } from "../../engine/gpu.ts";
import { speakAs } from "../../pipeline/advice.ts";
import { studioWords } from "../words.ts";
import { studioApp } from "./app.ts";
import type { PageFiles } from "./files.ts";
import { Sessions } from "./sessions.ts";
import { SharedDevice } from "./shared_device.ts";

/** Options of {@linkcode serveStudio}. */
export interface ServeOptions {
  /** The page's files: see `bundlePage()`. */
  readonly page: PageFiles;
  /** Folder of the embedded model. */
  readonly pocket: string;
  /** A model to draw with on this machine: a folder, a .safetensors file, or a name on the hub. */
  readonly model?: string;
  /** 0 takes any free port. */
  readonly port: number;
  /** Default: 127.0.0.1. Any other address needs the token that the server makes. */
  readonly hostname?: string;
  /** Opens the device. Default: a device with its saved tuning. */
  readonly gpu?: () => Promise<Gpu>;
}

/** A running server. */
export interface StudioServer extends AsyncDisposable {
  /** The address to open, with the token if one is needed. */
  readonly address: string;
  /** Resolves when the server has ended. */
  readonly finished: Promise<void>;
}

/** The port is in use, or the address is not one of this machine's. */
export class ListenError extends Error {
  override name = "ListenError";
}

/**
 * Serves the studio.
 *
 * @throws {ListenError} if the address cannot be used
 */
export function serveStudio(options: ServeOptions): StudioServer {
  const { page, pocket, model, port, hostname = "127.0.0.1", gpu } = options;
  const token = isLoopback(hostname) ? undefined : newToken();
  const device = new SharedDevice(gpu);
  const sessions = new Sessions({ places: { pocket, served: model }, device });
  const facts = { version: config.version, model: model === undefined ? null : lastPart(model) };
  const app = studioApp({ page: servedPage(page), pocket, facts, sessions, hostname, token });
  const server = listen({ hostname, port }, app.fetch);
  const words = speakAs(studioWords); // messages reach the page
  const shown = hostname.includes(":") ? `[${hostname}]` : hostname;
  return {
    address: `http://${shown}:${server.addr.port}/${token === undefined ? "" : `?token=${token}`}`,
    finished: server.finished,
    async [Symbol.asyncDispose]() {
      words[Symbol.dispose]();
      await sessions[Symbol.asyncDispose](); // ends the calls that the server would wait for
      await server.shutdown();
      await device[Symbol.asyncDispose]();
    },
  };
}

/** The page's files as a server has them: the page is told that there is a server to ask. */
function servedPage(page: PageFiles): PageFiles {
  const html = page.get("index.html");
  if (html === undefined) return page;
  const marked = new TextDecoder().decode(html).replace("<html", "<html data-server");
  return new Map([...page, ["index.html", new TextEncoder().encode(marked)]]);
}

function listen(
  { hostname, port }: { hostname: string; port: number },
  handler: (request: Request) => Response | Promise<Response>,
): Deno.HttpServer<Deno.NetAddr> {
  try {
    return Deno.serve({ hostname, port, onListen: () => {} }, (request) => handler(request));
  } catch (cause) {
    const where = `${hostname}:${port}`;
    if (cause instanceof Deno.errors.AddrInUse) {
      throw new ListenError(
        `Cannot serve the studio at ${where} as the port is in use: another studio may be open at http://${where}/. ` +
          "Choose another port with --port",
        { cause },
      );
    }
    if (cause instanceof Deno.errors.AddrNotAvailable) {
      throw new ListenError(`Cannot serve the studio at ${where} as this machine has no such address: see --host`, {
        cause,
      });
    }
    throw cause;
  }
}

/** Whether an address can be reached from this machine alone. */
export function isLoopback(hostname: string): boolean {
  return hostname === "localhost" || hostname === "::1" || /^127(\.\d{1,3}){3}$/.test(hostname);
}

/** 128 random bits in hexadecimal digits. */
function newToken(): string {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

function lastPart(path: string): string {
  return path.split(/[\\/]/).findLast((part) => part !== "") ?? path;
}
