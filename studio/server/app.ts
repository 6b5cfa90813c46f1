/** The server's application: the page, the embedded model's files, and the painter. @module */

import { type Context, Hono } from "hono";
import { bodyLimit } from "hono/body-limit";
import { callPainter, type PainterCall } from "../painters/forwarding_painter.ts";
import { protocol, type ServerFacts } from "../painters/http_painter.ts";
import { type Reply, replyOf } from "../painters/reply.ts";
import { encodeWire } from "../painters/wire.ts";
import { parseCall } from "./calls.ts";
import { isModelFile, openInside, type PageFiles, pageResponse, rangeResponse, requestedPath } from "./files.ts";
import { guard, type GuardOptions } from "./guard.ts";
import type { Sessions } from "./sessions.ts";

/** Options of {@linkcode studioApp}. */
export interface AppOptions extends GuardOptions {
  readonly page: PageFiles;
  /** Folder of the embedded model. */
  readonly pocket: string;
  readonly facts: ServerFacts;
  readonly sessions: Sessions;
}

/** A call holds a picture's pixels at most: 2048 × 2048 in base64. */
const maxCallBytes = 24 * 2 ** 20;
/** A LoRA of rank 256 for Stable Diffusion 2.x. */
const maxLoraBytes = 2 ** 30;

/** The application. It answers below "/"; the painter is at "/api/". */
export function studioApp({ page, pocket, facts, sessions, hostname, token }: AppOptions): Hono {
  const app = new Hono();
  app.use(guard({ hostname, token }));

  app.get("/api/facts", (c) => c.json(facts));
  app.post("/api/session", async (c) => {
    const reply = await replyOf(() => sessions.create());
    return "failure" in reply ? c.text(reply.failure.message, 503) : c.text(String(reply.value));
  });
  app.post("/api/call/:method", limited(maxCallBytes), async (c) => {
    if (c.req.header("content-type") !== protocol.callType) return c.text("Calls must be JSON", 415);
    const body = await c.req.text();
    const { method } = c.req.param();
    return answer(c, sessions, () => parseCall(method, body));
  });
  app.post("/api/lora", limited(maxLoraBytes), async (c) => {
    if (c.req.header("content-type") !== "application/octet-stream") return c.text("LoRAs must be bytes", 415);
    const file = await c.req.blob();
    const name = c.req.query("name") ?? "LoRA";
    return answer(c, sessions, () => ({ method: "useLora", args: [file, name] }));
  });
  app.get("/*", async (c) => {
    const path = requestedPath(new URL(c.req.url).pathname === "/" ? "/index.html" : rawPath(c.req.raw));
    const response = path === undefined ? undefined : await fileResponse(path, c.req.raw, { page, pocket });
    return response ?? c.text("There is no such file", 404);
  });
  app.onError((error, c) => {
    console.error(error);
    return c.text("The server failed: its console tells more", 500);
  });
  return app;
}

/** The path as it was sent, where the request has not normalized it. */
function rawPath({ url }: Request): string {
  return url.replace(/^[a-z]+:\/\/[^/]*/i, "").replace(/[?#].*$/, "");
}

async function fileResponse(
  path: string,
  request: Request,
  { page, pocket }: Pick<AppOptions, "page" | "pocket">,
): Promise<Response | undefined> {
  const inModel = /^pocket\/(.*)$/.exec(path)?.[1];
  if (inModel === undefined) return pageResponse(page, path);
  const source = isModelFile(inModel) ? await openInside(pocket, inModel) : undefined;
  return source && rangeResponse(source, path, request);
}

function limited(maxSize: number): ReturnType<typeof bodyLimit> {
  return bodyLimit({
    maxSize,
    onError: (c) => c.text(`The request is larger than ${maxSize / 2 ** 20} MiB`, 413),
  });
}

/** Carries a call out, and streams its progress and its result as lines. */
function answer(c: Context, sessions: Sessions, parse: () => PainterCall): Response {
  const session = c.req.header(protocol.sessionHeader) ?? "";
  const encoder = new TextEncoder();
  let stop = (): void => {};
  const stream = new ReadableStream<Uint8Array<ArrayBuffer>>({
    async start(controller) {
      let isOpen = true;
      const send = (message: Reply | { readonly progress: readonly unknown[] }): void => {
        if (isOpen) controller.enqueue(encoder.encode(`${encodeWire(message)}\n`));
      };
      stop = () => isOpen = false;
      const reply = await replyOf(async () => {
        const call = parse();
        if (call.method === "close") return await sessions.close(session);
        return await sessions.run(session, async (painter) => {
          stop = () => {
            isOpen = false;
            if (call.method === "draw") void painter.stop(); // nobody waits for the picture
          };
          const hasProgress = call.method === "draw" || call.method === "open";
          const onProgress = (...progress: unknown[]): void => send({ progress });
          return await callPainter(painter, call, hasProgress ? onProgress : undefined);
        });
      });
      if (!isOpen) return;
      send(reply);
      controller.close();
    },
    cancel: () => stop(),
  });
  return c.body(stream, 200, { "content-type": "application/x-ndjson", "cache-control": "no-store" });
}
