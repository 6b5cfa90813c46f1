import { assertEquals } from "@std/assert";
import fc from "fast-check";
import { Sha256 } from "../../../../pipeline/checkpoint/hub/sha256.ts";

async function digest(bytes: Uint8Array<ArrayBuffer>): Promise<string> {
  return new Uint8Array(await crypto.subtle.digest("SHA-256", bytes)).toHex();
}

Deno.test('Sha256 gives the digests of FIPS 180-4 for the empty message and "abc"', () => {
  assertEquals(new Sha256().hex(), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  const abc = new TextEncoder().encode("abc");
  assertEquals(new Sha256().update(abc).hex(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
});

Deno.test("Sha256 agrees with Web Crypto on every length around its block, and on a megabyte", async () => {
  const bytes = Uint8Array.from({ length: 1 << 20 }, (_, i) => i * 7 + (i >> 8));
  for (const length of [...Array(200).keys(), bytes.length]) {
    const part = bytes.slice(0, length);
    assertEquals(new Sha256().update(part).hex(), await digest(part), `${length} bytes`);
  }
});

Deno.test("Sha256 does not depend on how the bytes are split", async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(fc.uint8Array({ maxLength: 150 })), async (parts) => {
      const hash = new Sha256();
      for (const part of parts) hash.update(part);
      const whole = Uint8Array.from(parts.flatMap((part) => [...part]));
      assertEquals(hash.hex(), await digest(whole));
    }),
  );
});
