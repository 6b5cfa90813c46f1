import { assertEquals, assertThrows } from "@std/assert";
import { ImageError } from "../../../pipeline/image/errors.ts";
import type { Picture } from "../../../pipeline/image/picture.ts";
import { pictureGrid } from "../../../pipeline/image/picture_grid.ts";

function flat(color: readonly [number, number, number], size: number): Picture {
  const data = Uint8Array.from({ length: size * size * 3 }, (_, i) => color[i % 3]);
  return { data, width: size, height: size };
}

const red = [255, 0, 0] as const;
const blue = [0, 0, 255] as const;

Deno.test("pictureGrid() lays pictures out by rows and leaves the rest white", () => {
  const grid = pictureGrid([flat(red, 1), flat(blue, 1), flat([1, 2, 3], 1)], { columns: 2 });
  assertEquals([grid.width, grid.height], [2, 2]);
  assertEquals([...grid.data], [...red, ...blue, 1, 2, 3, 255, 255, 255]);
  assertEquals([pictureGrid(Array(5).fill(flat(red, 8))).width], [24]);
  assertThrows(() => pictureGrid([]), ImageError, "no pictures");
  assertThrows(() => pictureGrid([flat(red, 1), flat(red, 2)]), ImageError, "picture 1 of 2 × 2");
  assertThrows(() => pictureGrid([flat(red, 8)], { columns: 0 }), ImageError, "0 columns");
});
