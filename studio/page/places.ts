/** Where the page can draw: in this browser, or on the server that serves it. @module */

import type { ModelChoice, Painter } from "../painter.ts";
import { findServer, serverPainter } from "../painters/http_painter.ts";
import { workerPainter } from "../painters/worker_painter.ts";

/** A place to draw, and the model that it opens first. */
export interface Place {
  readonly painter: () => Painter;
  readonly choice: ModelChoice;
}

/** The places that this page has. */
export interface Places {
  readonly browser: Place;
  /** Where a studio's server serves the page. */
  readonly server?: Place;
  /** Where the page starts. */
  readonly first: Painter["place"];
  /** Whether this browser gives access to a GPU. */
  readonly hasWebGpu: boolean;
}

/** Finds the places. The server is first if it has its own model, or the browser no WebGPU. */
export async function findPlaces(): Promise<Places> {
  const api = new URL("api/", location.href);
  // A static host would answer with an error.
  const isServed = document.documentElement.dataset.server !== undefined;
  const [facts, hasWebGpu] = await Promise.all([isServed ? findServer(api) : undefined, findsAdapter()]);
  const browser: Place = {
    painter: () =>
      workerPainter({
        worker: () => new Worker(new URL("./worker.js", import.meta.url), { type: "module" }),
        pocket: new URL("pocket/", location.href),
        isPacked: document.documentElement.dataset.model === "packed", // build.ts writes that
      }),
    choice: { kind: "pocket" },
  };
  if (facts === undefined) return { browser, first: "browser", hasWebGpu };
  const choice: ModelChoice = facts.model === null ? { kind: "pocket" } : { kind: "served" };
  const first = facts.model !== null || !hasWebGpu ? "server" : "browser";
  return { browser, server: { painter: () => serverPainter(api), choice }, first, hasWebGpu };
}

/** Some browsers have WebGPU's interface, but no adapter for it. */
async function findsAdapter(): Promise<boolean> {
  try {
    return await navigator.gpu?.requestAdapter() != null;
  } catch {
    return false;
  }
}

/** Which browsers have WebGPU, and what to do. */
export const webGpuAdvice =
  "Chrome and Edge have all that this page needs from version 135. Safari has WebGPU from 26, Firefox from 141 on " +
  "Windows. " +
  "On Linux, Chrome may ask for chrome://flags/#enable-unsafe-webgpu.";
