import { assertEquals } from "@std/assert";
import { pitchOf } from "../../../kernels/wgsl/banks.ts";

const alongRows = (count: number) => (lane: number) => [lane % count, Math.floor(lane / count)] as const;

Deno.test("rows are padded until lanes along columns reach different banks", () => {
  // Lanes that read a row need no padding.
  assertEquals(pitchOf(16, 16, [(lane) => [0, lane]]), 16);
  // A column of vec4: 16 · 16 bytes apart, all lanes would meet in one of 8 places.
  assertEquals(pitchOf(16, 16, [(lane) => [lane, 0]]), 17);
  // f32: 32 lanes at a time.
  assertEquals(pitchOf(32, 4, [(lane) => [lane, 0]]), 33);
  // Four rows, then the next column: with a pitch of 18, lanes take the places 0, 2, 4, 6, 1, 3, 5,
  // 7.
  assertEquals(pitchOf(16, 16, [alongRows(4)]), 18);
  // An odd pitch suffices for eight rows.
  assertEquals(pitchOf(16, 16, [alongRows(8)]), 17);
  assertEquals(pitchOf(15, 16, [alongRows(8)]), 15);
});

Deno.test("lanes that access one element share it", () => {
  assertEquals(pitchOf(8, 16, [(lane) => [Math.floor(lane / 8), 0]]), 8);
});

Deno.test("the pitch is that with the fewest conflicts of all accesses together", () => {
  // 17 serves columns, 18 serves four rows at a time: its conflicts on columns count twice as much.
  const columns = (lane: number) => [lane, 0] as const;
  assertEquals(pitchOf(16, 16, [columns, alongRows(4)]), 17);
});
