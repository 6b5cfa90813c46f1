import { assert, assertEquals } from "@std/assert";
import { boxAround, overlap, placeLabels } from "../../../../../pipeline/evaluation/sweep/report/labels.ts";

const within = { left: 0, right: 300, top: 0, bottom: 200 };

Deno.test("placeLabels() puts labels beside their points, within bounds, on no point and on no other label", () => {
  // ten points at one place in a corner, as rates of 100 % have, and a row of close ones
  const corner = Array.from({ length: 10 }, (_, i) => ({ text: `${i}, 0.001`, x: 240, y: 8, radius: 4 + i }));
  const row = Array.from({ length: 12 }, (_, i) => ({ text: `0.${i}`, x: 40 + 7 * i, y: 120, radius: 4 }));
  const points = [...corner, ...row];
  const obstacles = points.map((point) => boxAround(point, point.radius));
  const placed = placeLabels(points, { within, obstacles });
  assertEquals(placed.length, points.length);
  for (const [i, { box, leader, x, radius }] of placed.entries()) {
    assert(
      box.left >= within.left && box.right <= within.right && box.top >= within.top && box.bottom <= within.bottom,
    );
    for (const other of [...obstacles, ...placed.slice(0, i).map(({ box }) => box)]) assert(!overlap(box, other));
    const gap = Math.max(box.left - x, x - box.right);
    assert(leader !== undefined || gap <= radius + 4, "a label that is not beside its point has a line to it");
  }
});

Deno.test("placeLabels() takes the place on the right where it is free, and leaves out what has no room", () => {
  const point = { text: "0.1", x: 100, y: 100, radius: 4 };
  const [{ box, leader }] = placeLabels([point], { within, obstacles: [boxAround(point, 4)] });
  assert(box.left > 104 && box.left < 112 && box.top < 100 && box.bottom > 100 && leader === undefined);
  assertEquals(placeLabels([point], { within, obstacles: [within] }), []);
});
