import { assertThrows } from "@std/assert";
import { checkAdapterName } from "../../../pipeline/checkpoint/save.ts";
import { OutputError } from "../../../pipeline/errors.ts";

Deno.test("adapters are written under names that loaders know, and another name is told", () => {
  for (const path of ["a.safetensors", "a.SFT", "my.lora/a.v2.safetensors"]) checkAdapterName(path);
  for (const path of ["lora.bin", "lora.pt", "lora.ckpt"]) {
    assertThrows(() => checkAdapterName(path), OutputError, ".safetensors");
  }
  assertThrows(() => checkAdapterName("out/rose.png"), OutputError, "name it out/rose.safetensors");
  assertThrows(() => checkAdapterName("rose"), OutputError, "name it rose.safetensors");
  assertThrows(() => checkAdapterName("rose.v2"), OutputError, "name it rose.v2.safetensors");
});
