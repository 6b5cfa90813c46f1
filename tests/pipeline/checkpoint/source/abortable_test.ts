import { assertEquals, assertRejects } from "@std/assert";
import { chunksOf, untilAborted } from "../../../../pipeline/checkpoint/source/abortable.ts";

Deno.test("chunksOf() ends with the signal's reason, and cancels the body, although the body hears no signal", async () => {
  const stall = new AbortController();
  let canceled = 0;
  const body = new ReadableStream<Uint8Array<ArrayBuffer>>({
    start: (controller) => controller.enqueue(new Uint8Array(3)),
    cancel: () => void canceled++,
  });
  const chunks = chunksOf(body, stall.signal);
  assertEquals((await chunks.next()).value?.length, 3);
  const next = chunks.next();
  stall.abort(new Error("stalled"));
  await assertRejects(() => next, Error, "stalled");
  assertEquals(canceled, 1);
  await assertRejects(() => untilAborted(new Promise(() => {}), stall.signal), Error, "stalled");
});

Deno.test("chunksOf() gives all chunks, and cancels the body of a consumer that stops early", async () => {
  const { signal } = new AbortController();
  const all = await Array.fromAsync(chunksOf(new Response("a rose").body, signal));
  assertEquals(new TextDecoder().decode(all[0]), "a rose");
  assertEquals(await Array.fromAsync(chunksOf(null, signal)), []);
  let canceled = 0;
  const body = new ReadableStream<Uint8Array<ArrayBuffer>>({
    pull: (controller) => controller.enqueue(new Uint8Array(1)),
    cancel: () => void canceled++,
  });
  for await (const _ of chunksOf(body, signal)) break;
  assertEquals(canceled, 1);
});
