import { assertEquals, assertRejects } from "@std/assert";
import { readAll } from "../../../../pipeline/checkpoint/source/byte_source.ts";
import { openTree } from "../../../../pipeline/checkpoint/source/disk.ts";
import { urlSource, urlTree } from "../../../../pipeline/checkpoint/source/url.ts";
import { CheckpointError, PathError } from "../../../../pipeline/errors.ts";
import { StableDiffusionPipeline } from "../../../../pipeline/stable_diffusion.ts";
import { gpuTest } from "../../../gpu.ts";
import { goldens } from "../../../paths.ts";

const large = Uint8Array.from({ length: 200_000 }, (_, i) => i * 7);
const files: Record<string, Uint8Array<ArrayBuffer>> = {
  "/model/large.bin": large,
  "/model/unet/config.json": new TextEncoder().encode('{ "a": 1 }'),
  "/model/a%20b.txt": new TextEncoder().encode("spaced"),
  "/model/empty": new Uint8Array(0),
};

/** Runs `body` beside a server of `files`. `alter` may answer in its place. */
async function withServer(
  body: (root: URL, requests: string[]) => Promise<void>,
  alter: (request: Request, range: string | null) => Response | undefined = () => undefined,
): Promise<void> {
  const requests: string[] = [];
  await using server = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen: () => {} }, (request) => {
    const { pathname } = new URL(request.url);
    const range = request.headers.get("Range");
    requests.push(`${pathname} ${range}`);
    const altered = alter(request, range);
    if (altered !== undefined) return altered;
    const bytes = files[pathname];
    if (bytes === undefined) return new Response("no such file", { status: 404 });
    const [first, last] = /^bytes=(\d+)-(\d+)$/.exec(range ?? "")!.slice(1).map(Number);
    if (first >= bytes.length) {
      return new Response(null, { status: 416, headers: { "Content-Range": `bytes */${bytes.length}` } });
    }
    const part = bytes.slice(first, last + 1);
    const headers = { "Content-Range": `bytes ${first}-${first + part.length - 1}/${bytes.length}` };
    return new Response(part, { status: 206, headers });
  });
  await body(new URL(`http://127.0.0.1:${server.addr.port}/model/`), requests);
}

Deno.test("a folder at a URL is read by range requests, and each small file by one request", async () => {
  await withServer(async (root, requests) => {
    const tree = urlTree(root);
    assertEquals(await tree.has("unet/config.json"), true);
    assertEquals(await tree.has("unet/missing.json"), false);
    assertEquals(await tree.subtree("unet").readJson("config.json"), { a: 1 });
    assertEquals(requests.length, 2);
    const source = await tree.open("large.bin");
    assertEquals(source.size, large.length);
    assertEquals(await source.read(10, 100), large.slice(10, 110));
    assertEquals(await source.read(199_990, 10), large.slice(199_990));
    assertEquals(await readAll(source), large);
    assertEquals(requests.slice(2), [
      "/model/large.bin bytes=0-65535",
      "/model/large.bin bytes=199990-199999",
      "/model/large.bin bytes=0-199999",
    ]);
    assertEquals(await tree.readText("a b.txt"), "spaced");
    assertEquals((await tree.open("empty")).size, 0);
    await assertRejects(() => source.read(199_990, 11), CheckpointError, "has 200000 bytes");
    await assertRejects(() => tree.open("missing"), CheckpointError, "there is no such file");
    await assertRejects(() => tree.open("../secret"), PathError);
  });
});

Deno.test("a server without ranges sends the file once", async () => {
  await withServer(
    async (root, requests) => {
      const source = await urlSource(new URL("large.bin", root));
      assertEquals(await source.read(100_000, 5), large.slice(100_000, 100_005));
      assertEquals(requests.length, 1);
    },
    () => new Response(large),
  );
});

Deno.test("HTTP errors, wrong ranges and unreachable servers are errors that name the URL", async () => {
  await withServer(
    async (root) => {
      await assertRejects(() => urlSource(new URL("large.bin", root)), CheckpointError, "status 403");
    },
    () => new Response("no", { status: 403 }),
  );
  await withServer(
    async (root) => {
      const source = await urlSource(new URL("large.bin", root));
      await assertRejects(() => source.read(100_000, 5), CheckpointError, "has the file changed?");
    },
    (_, range) =>
      range === "bytes=0-65535"
        ? undefined
        : new Response("ab", { status: 206, headers: { "Content-Range": "bytes 0-1/7" } }),
  );
  await assertRejects(() => urlSource(new URL("http://127.0.0.1:1/x")), CheckpointError, "cannot be reached");
});

Deno.test("openTree() accepts file URLs and web URLs", async () => {
  await withServer(async (root) => assertEquals(await (await openTree(root)).has("empty"), true));
  const here = await openTree(new URL("./", import.meta.url));
  assertEquals(await here.has("url_test.ts"), true);
  await assertRejects(() => openTree(new URL("data:,x")), CheckpointError, "http, https or file");
});

gpuTest("a model loaded from a URL has the same weights as from its folder", async (gpu) => {
  const folder = `${goldens}/sd1-mini`;
  await withServer(async (root) => {
    using pipe = await StableDiffusionPipeline.fromPretrained(root, { gpu });
    using local = await StableDiffusionPipeline.fromPretrained(folder, { gpu });
    const states = async (each: StableDiffusionPipeline) => {
      const { promptEmbeds, negativePromptEmbeds } = await each.encodePrompt("a rose");
      const data = await promptEmbeds.data();
      promptEmbeds[Symbol.dispose]();
      negativePromptEmbeds?.[Symbol.dispose]();
      return data;
    };
    assertEquals(await states(pipe), await states(local));
  }, (request, range) => {
    const path = new URL(request.url).pathname.replace("/model/", "");
    let bytes: Uint8Array<ArrayBuffer>;
    try {
      bytes = Deno.readFileSync(`${folder}/${path}`);
    } catch {
      return undefined;
    }
    const [first, last] = /^bytes=(\d+)-(\d+)$/.exec(range!)!.slice(1).map(Number);
    const part = bytes.slice(first, last + 1);
    const headers = { "Content-Range": `bytes ${first}-${first + part.length - 1}/${bytes.length}` };
    return new Response(part, { status: 206, headers });
  });
});

Deno.test("a server that sends more than was asked for is refused, and not read to its end", async () => {
  const endless = () =>
    new ReadableStream<Uint8Array<ArrayBuffer>>({ pull: (to) => to.enqueue(new Uint8Array(1 << 16)) });
  await withServer(
    async (root) => {
      await assertRejects(
        () => urlSource(new URL("large.bin", root)),
        CheckpointError,
        "sent more than the 65536 bytes that were due",
      );
    },
    () => new Response(endless(), { status: 206, headers: { "Content-Range": "bytes 0-65535/200000" } }),
  );
});
