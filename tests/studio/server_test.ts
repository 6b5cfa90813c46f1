/** The studio's server, without a browser. */
import { assert, assertEquals, assertMatch, assertNotEquals, assertRejects, assertThrows } from "@std/assert";
import { type Painter, PainterError } from "../../studio/painter.ts";
import { studioApp } from "../../studio/server/app.ts";
import type { Sessions } from "../../studio/server/sessions.ts";
import { findServer, serverPainter } from "../../studio/painters/http_painter.ts";
import { decodeWire, encodeWire } from "../../studio/painters/wire.ts";
import { FairQueue } from "../../studio/server/fair_queue.ts";
import { parseRange } from "../../studio/server/files.ts";
import { ListenError, type ServeOptions, serveStudio, type StudioServer } from "../../studio/server/serve.ts";
import { gpuTest } from "../gpu.ts";
import { pocket } from "../pocket_drawing.ts";
import { checkPainter } from "./painter_suite.ts";
import { blueRoses, pictureOf } from "./requests.ts";

const page = new Map([["index.html", new TextEncoder().encode("<!doctype html>")]]);

function serve(options: Partial<ServeOptions> = {}): StudioServer {
  return serveStudio({ page, pocket: pocket.pathname, port: 0, ...options });
}

/** Sends raw HTTP, so that neither path nor headers are normalized. Returns the answer's text. */
async function raw(server: StudioServer, head: string): Promise<string> {
  using connection = await Deno.connect({ hostname: "127.0.0.1", port: Number(new URL(server.address).port) });
  await connection.write(new TextEncoder().encode(`${head}\r\nConnection: close\r\n\r\n`));
  return await new Response(connection.readable).text();
}

function statusOf(answer: string): number {
  return Number(/^HTTP\/1\.1 (\d+)/.exec(answer)?.[1]);
}

Deno.test("only files below the page's and the model's folders are served, whatever the path says", async () => {
  const folder = await Deno.makeTempDir();
  await Deno.mkdir(`${folder}/model/unet`, { recursive: true });
  await Deno.writeTextFile(`${folder}/secret.json`, "secret");
  await Deno.writeTextFile(`${folder}/model/unet/.hidden`, "secret");
  await Deno.writeTextFile(`${folder}/model/unet/config.json`, "public");
  await Deno.writeTextFile(`${folder}/model/notes.txt`, "secret");
  await Deno.symlink(`${folder}/secret.json`, `${folder}/model/unet/link.json`);
  await Deno.symlink(`${folder}/model/unet/config.json`, `${folder}/model/unet/inside.json`);
  await Deno.symlink(folder, `${folder}/model/vae`);
  await using server = serve({ pocket: `${folder}/model` });
  const get = (path: string) => raw(server, `GET ${path} HTTP/1.1\r\nHost: 127.0.0.1`);
  for (
    const path of [
      "/",
      "/index.html",
      "/pocket/unet/config.json",
      "/pocket/unet/inside.json",
      "/pocket/unet/config.json?x",
    ]
  ) {
    assertEquals(statusOf(await get(path)), 200, path);
  }
  for (
    const path of [
      "/../secret.json",
      "/pocket/../secret.json",
      "/pocket/unet/../../../secret.json",
      "/pocket/%2e%2e/secret.json",
      "/pocket/unet/%2e%2e/%2e%2e/secret.json",
      "/pocket/unet/..%2f..%2fsecret.json",
      "/pocket/unet/%252e%252e/secret.json",
      "/pocket/unet/..%5c..%5csecret.json",
      "/pocket/unet/%00config.json",
      "/pocket/unet/.hidden",
      "/pocket/unet/link.json",
      "/pocket/vae/secret.json",
      "/pocket/notes.txt",
      "/pocket/unet/",
      "/pocket/unet",
      "/pocket//unet/config.json",
      "/pocket/unet/%ff",
      `/pocket/${folder}/secret.json`,
      `${folder}/secret.json`,
      "/deno.json",
    ]
  ) {
    const answer = await get(path);
    assertEquals(statusOf(answer), 404, path);
    assert(!answer.includes("secret\n") && !answer.endsWith("secret"), path);
  }
  await Deno.remove(folder, { recursive: true });
});

Deno.test("ranges are served as RFC 9110 says, and every answer has the security headers", async () => {
  await using server = serve();
  const url = new URL("pocket/unet/diffusion_pytorch_model.safetensors", server.address);
  const whole = await Deno.readFile(new URL("unet/diffusion_pytorch_model.safetensors", pocket));
  const size = whole.length;
  const get = async (range?: string) => {
    const response = await fetch(url, { headers: range === undefined ? {} : { range } });
    return { response, bytes: new Uint8Array(await response.arrayBuffer()) };
  };
  const all = await get();
  assertEquals([all.response.status, all.bytes], [200, whole]);
  for (
    const [range, from, to] of [["bytes=0-0", 0, 1], ["bytes=10-99", 10, 100], [`bytes=${size - 5}-`, size - 5, size], [
      "bytes=-7",
      size - 7,
      size,
    ], [`bytes=5-${size + 9}`, 5, size]] as const
  ) {
    const { response, bytes } = await get(range);
    assertEquals([response.status, bytes], [206, whole.slice(from, to)], range);
    assertEquals(response.headers.get("content-range"), `bytes ${from}-${to - 1}/${size}`);
  }
  const beyond = await get(`bytes=${size}-`);
  assertEquals([beyond.response.status, beyond.response.headers.get("content-range")], [416, `bytes */${size}`]);
  assertEquals(parseRange("bytes=-0", 5), "unsatisfiable");
  assertEquals(parseRange("bytes=0-1,3-4", 5), undefined, "several ranges: the whole file");
  for (const path of ["", "nothing", "api/facts"]) {
    const response = await fetch(new URL(path, server.address));
    await response.body?.cancel();
    assertMatch(response.headers.get("content-security-policy") ?? "", /^default-src 'self';.*frame-ancestors 'none'/);
    assertEquals(response.headers.get("x-content-type-options"), "nosniff");
  }
});

Deno.test("other hosts and other origins are refused", async () => {
  await using server = serve();
  const port = new URL(server.address).port;
  const get = async (headers: string) => statusOf(await raw(server, `GET /api/facts HTTP/1.1\r\n${headers}`));
  for (const host of [`127.0.0.1:${port}`, "localhost", `LOCALHOST:${port}`, "[::1]"]) {
    assertEquals(await get(`Host: ${host}`), 200, host);
  }
  for (
    const host of [
      "evil.example",
      `evil.example:${port}`,
      "127.0.0.1.evil.example",
      "192.168.0.9",
      "127.0.0.1@evil.example",
      "",
    ]
  ) {
    assertNotEquals(await get(`Host: ${host}`), 200, host);
  }
  const post = async (headers: string) =>
    statusOf(await raw(server, `POST /api/session HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\n${headers}Content-Length: 0`));
  assertEquals(await post(""), 200);
  assertEquals(await post(`Origin: http://127.0.0.1:${port}\r\n`), 200);
  for (const origin of ["http://evil.example", "null", "http://127.0.0.1:1", `https://127.0.0.1:${port}`]) {
    assertEquals(await post(`Origin: ${origin}\r\n`), 403, origin);
  }
  assertEquals(await post("Sec-Fetch-Site: cross-site\r\n"), 403);
});

Deno.test("beyond loopback a token is needed, by address, cookie or header", async () => {
  await using server = serve({ hostname: "0.0.0.0" });
  const { port, searchParams } = new URL(server.address);
  const token = searchParams.get("token")!;
  assertMatch(token, /^[0-9a-f]{32}$/);
  const local = `http://127.0.0.1:${port}`;
  const status = async (path: string, headers: Record<string, string> = {}) => {
    const response = await fetch(`${local}${path}`, { headers, redirect: "manual" });
    await response.body?.cancel();
    return response.status;
  };
  for (
    const path of [
      "/",
      "/api/facts",
      "/pocket/model_index.json",
      "/?token=",
      `/?token=${token}x`,
      `/?token=${token.slice(1)}`,
    ]
  ) {
    assertEquals(await status(path), 401, path);
  }
  assertEquals(await status("/", { cookie: "bluerose_studio=wrong" }), 401);
  assertEquals(await status("/api/facts", { authorization: "Bearer wrong" }), 401);
  const response = await fetch(`${local}/?token=${token}`, { redirect: "manual" });
  await response.body?.cancel();
  assertEquals([response.status, response.headers.get("location")], [302, "/"]);
  const cookie = response.headers.get("set-cookie")!;
  assert(cookie.includes("HttpOnly") && cookie.includes("SameSite=Strict"), cookie);
  assertEquals(await status("/api/facts", { cookie: cookie.split(";")[0] }), 200);
  assertEquals(await status("/api/facts", { authorization: `Bearer ${token}` }), 200);
  // An address may be the server's; a name may be bound to it by somebody else.
  const host = async (name: string) =>
    statusOf(await raw(server, `GET /api/facts HTTP/1.1\r\nHost: ${name}\r\nAuthorization: Bearer ${token}`));
  assertEquals(await host(`192.168.0.9:${port}`), 200);
  assertEquals(await host("evil.example"), 403);
});

Deno.test("bodies beyond the limit, of another type or form are refused", async () => {
  await using server = serve();
  const session = await (await fetch(new URL("api/session", server.address), { method: "POST" })).text();
  const call = async (method: string, body: BodyInit, type = "application/json") => {
    const response = await fetch(new URL(`api/call/${method}`, server.address), {
      method: "POST",
      body,
      headers: { "content-type": type, "x-studio-session": session },
    });
    return { status: response.status, text: await response.text() };
  };
  assertEquals((await call("stop", "[]")).status, 200);
  assertEquals((await call("stop", "[]", "text/plain")).status, 415);
  assertEquals((await call("predict", " ".repeat(25 * 2 ** 20))).status, 413);
  const refused: [string, string][] = [
    ["constructor", "[]"],
    ["read", "[]"],
    ["stop", "{"],
    ["stop", "[1]"],
    ["predict", "[[],[5]]"],
    ["predict", encodeWire([[{ ...blueRoses, lambda: 0 }], []])],
    ["predict", encodeWire([[{ ...blueRoses, strength: NaN }], []])],
    ["open", '[{"kind":"folder","name":"x","files":[]}]'],
    ["draw", encodeWire([{ ...pictureOf("a"), settings: { ...pictureOf("a").settings, width: 1e6 } }])],
    [
      "encode",
      encodeWire([pictureOf("a"), { width: 2, height: 2, data: new Uint8ClampedArray(4) }, { withText: true }]),
    ],
  ];
  for (const [method, body] of refused) {
    const { failure } = decodeWire((await call(method, body)).text) as { failure?: { kind: string; message: string } };
    assertEquals(failure?.kind, "input", `${method} ${body.slice(0, 80)}`);
    assert(failure!.message.startsWith("The server cannot carry out the call"), failure!.message);
  }
});

Deno.test("a page that leaves stops the picture that nobody waits for", async () => {
  const stopped = Promise.withResolvers<void>();
  const painter: Partial<Painter> = {
    draw(_request, onProgress) {
      onProgress({ step: 1, steps: 2 });
      return new Promise(() => {}); // never ends by itself
    },
    stop: () => Promise.resolve(stopped.resolve()),
  };
  const sessions = { run: (_id: string, body: (painter: Painter) => Promise<unknown>) => body(painter as Painter) };
  const app = studioApp({
    page,
    pocket: pocket.pathname,
    facts: { version: "0", model: null },
    sessions: sessions as unknown as Sessions,
    hostname: "127.0.0.1",
  });
  const response = await app.request("http://127.0.0.1/api/call/draw", {
    method: "POST",
    headers: { host: "127.0.0.1", "content-type": "application/json", "x-studio-session": "1" },
    body: encodeWire([pictureOf("a rose")]),
  });
  const reader = response.body!.getReader();
  assertEquals(decodeWire(new TextDecoder().decode((await reader.read()).value)), {
    progress: [{ step: 1, steps: 2 }],
  });
  await reader.cancel();
  await stopped.promise;
});

Deno.test("a busy port explains itself", async () => {
  await using server = serve();
  const port = Number(new URL(server.address).port);
  assertThrows(() => serve({ port }), ListenError, "the port is in use: another studio may be open at");
});

Deno.test("FairQueue: owners take turns, waiting is reported, what is stopped leaves the queue", async () => {
  const queue = new FairQueue();
  const order: string[] = [];
  const waiting: Record<string, number[]> = {};
  const gate = Promise.withResolvers<void>();
  const stopB = new AbortController();
  const run = (owner: string, name: string, signal?: AbortSignal) =>
    queue.run(owner, async () => {
      order.push(name);
      await gate.promise;
    }, { signal, onWaiting: (ahead) => (waiting[name] ??= []).push(ahead) });
  const all = [run("a", "a1"), run("a", "a2"), run("a", "a3"), run("b", "b1"), run("b", "b2", stopB.signal)];
  assertEquals([waiting.a3.at(-1), waiting.b1.at(-1), waiting.b2.at(-1)], [3, 2, 4], "rounds: a2 b1, a3 b2");
  stopB.abort(new Error("stopped"));
  gate.resolve();
  const results = await Promise.allSettled(all);
  assertEquals(order, ["a1", "a2", "b1", "a3"]);
  assertEquals(results.map(({ status }) => status), ["fulfilled", "fulfilled", "fulfilled", "fulfilled", "rejected"]);
  await queue.run("c", () => Promise.reject(new Error("x"))).catch(() => {});
  assertEquals(await queue.run("c", () => Promise.resolve(7)), 7, "a failure ends its turn");
});

Deno.test("wire: bytes, NaN and nesting survive; malformed bytes are an error", () => {
  const value = {
    bytes: Uint8Array.from({ length: 70_000 }, (_, i) => i),
    pixels: new Uint8ClampedArray([1, 2, 255]),
    curves: [[NaN, 1.5], []],
    text: "€ \u2028 $bytes",
    none: null,
  };
  assertEquals(decodeWire(encodeWire(value)), value);
  assertThrows(() => decodeWire('{"$bytes":"*"}'), SyntaxError);
});

Deno.test("a page finds the server; a static host has none; a stopped server says so", async () => {
  const server = serve({ model: "/models/sd15" });
  const api = new URL("api/", server.address);
  assertEquals((await findServer(api))?.model, "sd15");
  await using host = Deno.serve({ port: 0, hostname: "127.0.0.1", onListen: () => {} }, () => new Response("<html>"));
  assertEquals(await findServer(new URL(`http://127.0.0.1:${host.addr.port}/api/`)), undefined);
  await server[Symbol.asyncDispose]();
  assertEquals(await findServer(api), undefined);
  const { failure } = await assertRejects(() => serverPainter(api).estimate({ kind: "pocket" }), PainterError);
  assertEquals(failure.kind, "network");
});

gpuTest("the server's painter behaves as the session does", async () => {
  await using server = serve();
  const painter = serverPainter(new URL("api/", server.address));
  await checkPainter(painter);
  await assertRejects(() => painter.open({ kind: "served" }, () => {}), PainterError, "bluerose studio --model");
  await painter.close();
});

gpuTest("pages share the device: facts tell, turns are fair, and a closed session is opened again", async () => {
  await using server = serve();
  const api = new URL("api/", server.address);
  const painters = Array.from({ length: 5 }, () => serverPainter(api));
  const others: number[] = [];
  for (const painter of painters.slice(0, 4)) {
    others.push((await painter.open({ kind: "pocket" }, () => {})).otherPages);
  }
  assertEquals(others, [0, 1, 2, 3]);
  const [first, second] = painters.slice(2);
  const order: string[] = [];
  let waited = 0;
  const draw = (name: string, painter: typeof first) =>
    painter.draw(pictureOf("a rose"), ({ waiting = 0 }) => waited = Math.max(waited, waiting)).then(() =>
      order.push(name)
    );
  await Promise.all([draw("a1", first), draw("a2", first), draw("a3", first), draw("b1", second)]);
  assert(order.indexOf("b1") <= 2, `the second page does not wait for all of the first: ${order}`);
  assert(waited > 0, "who waits is told how long");
  // A fifth page takes the place of the one that was idle for longest, which comes back by itself.
  await painters[4].open({ kind: "pocket" }, () => {});
  const { failure } = await assertRejects(
    () => painters[0].predict([], ["a"]),
    PainterError,
    "closed this page's session",
  );
  assertEquals(failure.kind, "device");
  assertEquals((await painters[0].predict([], ["a"])).changes, [0]);
  for (const painter of painters) await painter.close();
});
