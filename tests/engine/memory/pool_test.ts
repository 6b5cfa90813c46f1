import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import fc from "fast-check";
import { GpuError, OutOfMemoryError } from "../../../engine/errors.ts";
import type { Gpu } from "../../../engine/gpu.ts";
import { Pool, sizeClass } from "../../../engine/memory/pool.ts";
import { Tensor } from "../../../engine/tensor.ts";
import { add } from "../../../kernels/shape/linear_combination.ts";
import { gpuTest } from "../../gpu.ts";

const counts = ({ live, peak, reserved, peakReserved }: Pool) => ({ live, peak, reserved, peakReserved });

Deno.test("sizeClass() is a multiple of 256, at least the bytes, with at most an eighth of slack, and idempotent", () => {
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 2 ** 40 }), (bytes) => {
      const size = sizeClass(bytes);
      assert(size >= bytes && size % 256 === 0);
      assert(size - Math.max(bytes, 1) < Math.max(256, bytes / 8));
      assertEquals(sizeClass(size), size);
    }),
  );
});

gpuTest("the pool reuses buffers within a size class, and counts live, peak and reserved bytes", (gpu) => {
  const pool = new Pool(gpu.context);
  const a = pool.acquire(1000); // class 1024
  assertEquals(counts(pool), { live: 1024, peak: 1024, reserved: 1024, peakReserved: 1024 });
  const b = pool.acquire(1024);
  assertEquals(counts(pool), { live: 2048, peak: 2048, reserved: 2048, peakReserved: 2048 });
  pool.release(a);
  assertEquals(counts(pool), { live: 1024, peak: 2048, reserved: 2048, peakReserved: 2048 });
  const other = pool.acquire(700); // class 768
  assert(other !== a);
  const again = pool.acquire(800); // class 1024
  assertEquals(again, a);
  assertEquals(counts(pool), { live: 2816, peak: 2816, reserved: 2816, peakReserved: 2816 });
  for (const buffer of [again, b, other]) pool.release(buffer);
  pool.trim();
  assertEquals(counts(pool), { live: 0, peak: 2816, reserved: 0, peakReserved: 2816 });
});

gpuTest("the pool hands out the oldest free buffer of a class, in any order of release", (gpu) => {
  const pool = new Pool(gpu.context);
  const made = Array.from({ length: 4 }, () => pool.acquire(1024));
  for (const order of [[0, 1, 2, 3], [3, 1, 0, 2], [2, 3, 1, 0]]) {
    for (const index of order) pool.release(made[index]);
    assertEquals(made.map(() => made.indexOf(pool.acquire(1024))), [0, 1, 2, 3]);
  }
  for (const buffer of made) pool.release(buffer);
  pool.trim();
});

gpuTest("a released buffer stays live until its last pin is removed", (gpu) => {
  const pool = new Pool(gpu.context);
  for (const exact of [false, true]) {
    const buffer = pool.acquire(1024, exact);
    pool.pin(buffer);
    pool.pin(buffer);
    pool.release(buffer);
    pool.unpin(buffer);
    const other = pool.acquire(1024);
    assert(other !== buffer);
    assertEquals(pool.live, 2048);
    pool.unpin(buffer);
    assertEquals(pool.live, 1024);
    pool.release(other);
    assertEquals(pool.live, 0);
  }
  pool.trim();
  assertEquals(pool.reserved, 0);
});

gpuTest("exact buffers have no slack and are destroyed on release", (gpu) => {
  const pool = new Pool(gpu.context);
  const exact = pool.acquire(1009, true);
  assertEquals([exact.size, pool.reserved], [1024, 1024]);
  const odd = pool.acquire(1030, true);
  assertEquals([odd.size, pool.live, pool.reserved], [1040, 2064, 2064]);
  pool.release(odd);
  assertEquals([pool.live, pool.reserved], [1024, 1024]);
  pool.release(exact);
  pool.trim();
  assertEquals([pool.live, pool.reserved], [0, 0]);
});

gpuTest("trim() destroys free buffers, largest first, down to the bytes to keep, and no live ones", (gpu) => {
  const pool = new Pool(gpu.context);
  const live = pool.acquire(512);
  const free = [256, 512, 1024].map((bytes) => pool.acquire(bytes));
  for (const buffer of free) pool.release(buffer);
  pool.trim(800);
  assertEquals(pool.reserved, 512 + 256 + 512);
  pool.trim(0);
  assertEquals([pool.reserved, pool.live], [512, 512]);
  pool.release(live);
  pool.trim();
});

gpuTest("beyond retainBytes, the pool trims its free bytes to half of them", (gpu) => {
  const pool = new Pool(gpu.context, 4096);
  const buffers = Array.from({ length: 5 }, () => pool.acquire(1024));
  for (const buffer of buffers.slice(0, 4)) pool.release(buffer);
  assertEquals(pool.reserved, 5 * 1024);
  pool.release(buffers[4]);
  assertEquals([pool.live, pool.reserved], [0, 2048]);
  pool.trim();
});

gpuTest("a large new buffer evicts free buffers", (gpu) => {
  const pool = new Pool(gpu.context, 65536);
  const buffers = Array.from({ length: 32 }, () => pool.acquire(1024));
  for (const buffer of buffers) pool.release(buffer);
  assertEquals(pool.reserved, 32 * 1024);
  // larger than 1/16 of retainBytes, while more than 1/4 of it is free
  const big = pool.acquire(8192);
  assertEquals(pool.reserved, 16 * 1024 + 8192);
  pool.release(big);
  pool.trim();
});

gpuTest("recorded work runs before a buffer that it reads is destroyed", async (gpu) => {
  const x = Tensor.empty(gpu, [300], "f32", { exact: true });
  x.write(new Uint8Array(new Float32Array(300).fill(2).buffer));
  using sum = add(x, x);
  x[Symbol.dispose]();
  gpu.trim();
  assertEquals(await sum.data(), new Float32Array(300).fill(4));
});

gpuTest("gpu.memory counts tensors, and resetPeak() restarts the peaks", (gpu) => {
  gpu.resetPeak();
  const { live, peak } = gpu.memory;
  assertEquals(peak, live);
  const x = Tensor.empty(gpu, [1024]), y = Tensor.empty(gpu, [1024]);
  x[Symbol.dispose]();
  y[Symbol.dispose]();
  assertEquals([gpu.memory.live - live, gpu.memory.peak - live], [0, 8192]);
  gpu.resetPeak();
  assertEquals(gpu.memory.peak, live);
});

gpuTest("a buffer larger than the device's largest throws with its size", (gpu) => {
  const bytes = gpu.info.limits.maxBufferSize + 1;
  const error = assertThrows(() => gpu.context.pool.acquire(bytes), OutOfMemoryError, "this device's largest");
  assertEquals(error.requestedBytes, sizeClass(bytes));
});

/**
 * Runs `body` while the device fails to create buffers. As in WebGPU, the call returns an invalid
 * buffer, and the error follows.
 */
function withBrokenBuffers<T>(gpu: Gpu, body: () => T): T {
  const real = gpu.context.device.createBuffer;
  gpu.context.device.createBuffer = (descriptor) => real.call(gpu.context.device, { ...descriptor, usage: 0xffff });
  try {
    return body();
  } finally {
    gpu.context.device.createBuffer = real;
  }
}

gpuTest("a failed buffer creation throws at the next wait; the buffer is not handed out again", async (gpu) => {
  const bytes = 12345;
  const isNew = (tensor: Tensor, old: GPUBuffer) => tensor.buffer !== old;
  for (const disposedFirst of [true, false]) {
    gpu.trim();
    const reserved = gpu.memory.reserved;
    const broken = withBrokenBuffers(gpu, () => Tensor.empty(gpu, [bytes]));
    const { buffer } = broken;
    if (disposedFirst) broken[Symbol.dispose]();
    await assertRejects(() => gpu.finished(), GpuError, "Could not create a buffer of");
    if (!disposedFirst) broken[Symbol.dispose]();
    assertEquals(gpu.memory.reserved, reserved);
    using next = Tensor.from(gpu, new Float32Array(bytes).fill(1), [bytes]);
    assert(isNew(next, buffer));
    assertEquals(await next.data(), new Float32Array(bytes).fill(1));
  }
});
