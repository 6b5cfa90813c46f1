/** Whether what the browser makes is what Deno makes. */
import { assert, assertEquals } from "@std/assert";
import { decode } from "fast-png";
import { bytesSource } from "../../../pipeline/checkpoint/source/byte_source.ts";
import { SafetensorsFile } from "../../../pipeline/checkpoint/safetensors/safetensors_file.ts";
import { defaultRecipe } from "../../../studio/page/state.ts";
import { StudioSession } from "../../../studio/session.ts";
import { product } from "../../../bench/oracles/matrices.ts";
import { assertClose } from "../../close.ts";
import { pocket } from "../../paths.ts";

/**
 * Two devices draw values from 0 to 1 that differ by at most 1e-4, or 0.0255 levels of 8 bits. So
 * rounding gives neighboring levels at most. It differs where a boundary lies between the two: in
 * 2.55 % of all cases, if the values are spread over their levels. The bound adds four standard
 * deviations, √(0.0255 · 0.9745 / count).
 */
export function assertSamePicture(actual: Uint8Array, expected: Uint8Array): void {
  const [a, b] = [decode(actual), decode(expected)];
  assertEquals([a.width, a.height, a.channels, a.depth], [b.width, b.height, b.channels, b.depth]);
  const differences = Array.from(a.data, (value, i) => Math.abs(value - b.data[i]));
  const differing = differences.filter((difference) => difference > 0).length / differences.length;
  console.log(`levels that differ: ${(100 * differing).toFixed(2)} %`);
  assert(Math.max(...differences) <= 1, `a level differs by ${Math.max(...differences)}`);
  const share = 255 * 1e-4;
  const bound = share + 4 * Math.sqrt(share * (1 - share) / differences.length);
  assert(differing <= bound, `${differing} of the levels differ, at most ${bound} may`);
}

/** The LoRA of the page's first edit, as Deno writes it. */
export async function loraByDeno(): Promise<Uint8Array> {
  const session = new StudioSession({ place: "server", pocket });
  try {
    await session.open({ kind: "pocket" }, () => {});
    return (await session.saveLora(defaultRecipe.edits)).bytes;
  } finally {
    await session.close();
  }
}

/**
 * The same LoRA from two devices: equal bytes up to the numbers, and every ΔW = up · down within
 * 2e-4, as edits are to their goldens. The numbers are not equal, because the two devices sum the
 * text encoder's f32 products in different orders, and the solution of the edit amplifies that.
 */
export async function assertSameLora(actual: Uint8Array, expected: Uint8Array): Promise<void> {
  using a = await SafetensorsFile.open(bytesSource(actual, "the browser's LoRA"));
  using b = await SafetensorsFile.open(bytesSource(expected, "Deno's LoRA"));
  assertEquals(a.metadata, b.metadata);
  assertEquals([...a.tensors], [...b.tensors]);
  let largest = 0;
  for (const key of b.tensors.keys()) {
    const module = /^(.*)\.lora_down\.weight$/.exec(key)?.[1];
    if (module === undefined) continue;
    const change = async (file: SafetensorsFile) => {
      const [rank, width] = file.tensors.get(key)!.shape;
      const [features] = file.tensors.get(`${module}.lora_up.weight`)!.shape;
      const [up, down] = [await file.float32(`${module}.lora_up.weight`), await file.float32(key)];
      return product(up, down, features, rank, width);
    };
    const [ours, theirs] = [await change(a), await change(b)];
    assertClose(ours, theirs, 2e-4, module);
    const norm = Math.hypot(...theirs), difference = Math.hypot(...theirs.map((value, i) => value - ours[i]));
    largest = Math.max(largest, difference / norm);
  }
  console.log(`largest relative difference of a LoRA's matrix: ${largest.toExponential(1)}`);
}
