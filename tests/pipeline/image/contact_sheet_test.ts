import { assert, assertEquals, assertRejects } from "@std/assert";
import { contactSheet } from "../../../pipeline/image/contact_sheet.ts";
import { ImageError } from "../../../pipeline/image/errors.ts";
import type { JimpImage, Picture } from "../../../pipeline/image/picture.ts";

function flat(color: [number, number, number], size = 8): Picture {
  const data = Uint8Array.from({ length: size * size * 3 }, (_, i) => color[i % 3]);
  return { data, width: size, height: size };
}

const red: [number, number, number] = [255, 0, 0];
const blue: [number, number, number] = [0, 0, 255];

/** The box around all pixels of exactly this color, and how many there are. */
function boxOf(
  image: JimpImage,
  color: readonly number[],
): { left: number; top: number; width: number; height: number; count: number } {
  const { data, width, height } = image.bitmap;
  let [left, top, right, bottom, count] = [width, height, -1, -1, 0];
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      if (color.some((value, channel) => data[4 * (y * width + x) + channel] !== value)) continue;
      [left, right, top, bottom] = [Math.min(left, x), Math.max(right, x), Math.min(top, y), Math.max(bottom, y)];
      count++;
    }
  }
  return { left, top, width: right - left + 1, height: bottom - top + 1, count };
}

/** The number of nearly black pixels. Only letters are nearly black. */
function inkOf(image: JimpImage): number {
  const { data } = image.bitmap;
  let ink = 0;
  for (let i = 0; i < data.length; i += 4) if (data[i] + data[i + 1] + data[i + 2] < 240) ink++;
  return ink;
}

Deno.test("contactSheet() enlarges small pictures at most twofold, and places them in columns", async () => {
  const sheet = await contactSheet(
    [{ caption: "a rose", cells: [{ picture: flat(red, 20) }, { picture: flat(blue, 20) }] }],
    { columns: ["before", "after"], cellSize: 64 },
  );
  const [before, after] = [boxOf(sheet, red), boxOf(sheet, blue)];
  assertEquals([before.width, before.height, before.count], [40, 40, 1600]);
  assertEquals([after.width, after.height, after.count], [40, 40, 1600]);
  assertEquals(before.top, after.top);
  assert(before.left + 40 < after.left);
});

Deno.test("contactSheet() of density 2 has about twice as many pixels a side as of density 1", async () => {
  const rows = [{ caption: "a rose", cells: [{ picture: flat(red, 128) }] }];
  const [single, double] = [await contactSheet(rows, { density: 1 }), await contactSheet(rows)];
  assertEquals([boxOf(single, red).width, boxOf(double, red).width], [128, 256]);
  assertEquals([double.width, double.height], [2 * single.width, 2 * single.height]);
});

Deno.test("contactSheet() does not enlarge pictures that fill a cell", async () => {
  const sheet = await contactSheet([{ caption: "", cells: [{ picture: flat(red, 50) }] }], { cellSize: 44 });
  assertEquals(boxOf(sheet, red).count, 2500);
});

Deno.test("contactSheet() writes every caption, and grows for long ones", async () => {
  const cells = [{ picture: flat(red) }];
  const options = { cellSize: 64, density: 1 } as const;
  const bare = await contactSheet([{ caption: "", cells }], options);
  const short = await contactSheet([{ caption: "rose", cells }], options);
  const long = await contactSheet([{ caption: "a rose ".repeat(60) + "r".repeat(200), cells }], options);
  assertEquals(inkOf(bare), 0);
  assert(inkOf(short) > 0);
  assert(inkOf(long) > 50 * inkOf(short));
  assert(long.height > short.height + 100);
  // No text is printed over the pictures.
  assertEquals(boxOf(long, red).count, 16 * 16);
  for (
    const [name, sheet] of Object.entries({
      title: await contactSheet([{ caption: "", cells }], { ...options, title: "rose" }),
      subtitle: await contactSheet([{ caption: "", cells }], { ...options, subtitle: "rose" }),
      note: await contactSheet([{ caption: "", note: "rose", cells }], options),
      cell: await contactSheet([{ caption: "", cells: [{ picture: flat(red), caption: "rose" }] }], options),
    })
  ) {
    assert(sheet.height > bare.height || name === "note", `${name} takes no room`);
    assert(sheet.bitmap.data.some((byte, i) => i % 4 === 0 && byte < 160), `${name} is not written`);
  }
});

Deno.test("contactSheet() replaces characters that its fonts lack", async () => {
  const cells = [{ picture: flat(red) }];
  const greek = await contactSheet([{ caption: "λ → 1", cells }]);
  const spelled = await contactSheet([{ caption: "lambda -> 1", cells }]);
  assertEquals(greek.bitmap.data, spelled.bitmap.data);
  const unknown = await contactSheet([{ caption: "花", cells }]);
  const asked = await contactSheet([{ caption: "?", cells }]);
  assertEquals(unknown.bitmap.data, asked.bitmap.data);
});

Deno.test("contactSheet() accepts rows of different lengths and rejects a sheet without pictures", async () => {
  const sheet = await contactSheet([
    { caption: "one", cells: [{ picture: flat(red) }] },
    { caption: "none", cells: [] },
    { caption: "two", cells: [{ picture: flat(red) }, { picture: flat(blue) }] },
  ]);
  assertEquals(boxOf(sheet, blue).count, 16 * 16);
  await assertRejects(() => contactSheet([]), ImageError, "without a picture");
  await assertRejects(() => contactSheet([{ caption: "a", cells: [] }]), ImageError, "without a picture");
});
