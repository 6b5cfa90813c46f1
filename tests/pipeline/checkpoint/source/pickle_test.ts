import { assert, assertEquals, assertRejects } from "@std/assert";
import { SafetensorsFile } from "../../../../pipeline/checkpoint/safetensors/safetensors_file.ts";
import { bytesSource } from "../../../../pipeline/checkpoint/source/byte_source.ts";
import { isPickle } from "../../../../pipeline/checkpoint/source/pickle.ts";
import { SafetensorsError } from "../../../../pipeline/errors.ts";

Deno.test("isPickle() recognizes the extensions of torch.save files in any letter case", () => {
  for (const name of ["a.bin", "b/c.ckpt", "d.PT", "e.pth", "f.pkl", "g.pickle"]) assert(isPickle(name), name);
  for (const name of ["a.safetensors", "bin", "pt.json", "model.bin.index.json"]) assert(!isPickle(name), name);
});

Deno.test("isPickle() decides by the first bytes rather than by the name", () => {
  const zip = [0x50, 0x4b, 3, 4, 0, 0, 8, 8, 0];
  const protocol2 = [0x80, 2, 0x7d, 0x71, 0, 0x28, 0x58, 0, 0];
  const safetensors = [0x80, 2, 0, 0, 0, 0, 0, 0, 0x7b];
  assertEquals([zip, protocol2, safetensors].map((head) => isPickle("a.bin", Uint8Array.from(head))), [
    true,
    true,
    false,
  ]);
});

Deno.test("a pickle with a .safetensors name is rejected as a pickle", async () => {
  const source = bytesSource(Uint8Array.of(0x50, 0x4b, 3, 4, 0, 0, 8, 8, 0, 0), "a.safetensors");
  await assertRejects(() => SafetensorsFile.open(source), SafetensorsError, "a.safetensors: it is a pickle");
});
