import { assertEquals, assertNotEquals, assertThrows } from "@std/assert";
import { attentionFormFor, attentionFormOn } from "../../kernels/attention/form.ts";
import { tileFor } from "../../kernels/gemm/tile.ts";
import {
  parseTileTable,
  tileKind,
  tilesOf,
  type TileTable,
  TileTableError,
  tileTableName,
  useTiles,
} from "../../kernels/policy.ts";
import { gpuTest, lackOfSubgroupMatrices } from "../gpu.ts";

gpuTest("useTiles() replaces the tiles of its adapter until another table does, and those of no other", (gpu) => {
  const before = tilesOf(gpu);
  const tile = { strategy: "workgroup" as const, lanes: 64, threadsX: 16, rows: 2, columns: 1 };
  assertEquals(useTiles(gpu, { "another adapter": { many: tile } }), false);
  assertEquals(tilesOf(gpu), before);
  assertEquals(useTiles(gpu, { [gpu.info.name]: { many: tile } }), true);
  assertEquals(tilesOf(gpu), { ...before, many: tile });
  assertEquals(tileFor(gpu, 1024, 1024), tile);
  useTiles(gpu, {});
  assertEquals(tilesOf(gpu), before);
});

gpuTest("useTiles() replaces the attention for heads of a width, and no other's", (gpu) => {
  const sizes = { batch: 1, heads: 2, t: 64, s: 64, dim: 40, causal: false, scale: 1 };
  const before = attentionFormFor(gpu, sizes);
  const form = { path: "workgroup" as const, threadsX: 8, threadsY: 4, rows: 2 };
  assertNotEquals(before, form);
  assertEquals(useTiles(gpu, { [gpu.info.name]: { attention: { 40: form } } }), true);
  assertEquals(attentionFormFor(gpu, sizes), form);
  assertEquals(attentionFormFor(gpu, { ...sizes, dim: 44 }), attentionFormOn(gpu, before.path, { ...sizes, dim: 44 }));
  useTiles(gpu, {});
  assertEquals(attentionFormFor(gpu, sizes), before);
  for (
    const [wrong, why] of [
      [{ path: "subgroup", lanes: 3, queries: 1, keys: 1, unrollK: 1 }, "lanes: 3"],
      [{ path: "workgroup", threadsX: 1024, threadsY: 1024, rows: 1 }, "threads at most: 1048576"],
      [{ path: "workgroup", threadsX: 16, threadsY: 16, rows: 64 }, "bytes at most"],
    ] as const
  ) {
    assertThrows(() => useTiles(gpu, { [gpu.info.name]: { attention: { 40: wrong } } }), TileTableError, why);
  }
  assertThrows(() => useTiles(gpu, { [gpu.info.name]: { attention: { 42: form } } }), TileTableError, "multiple of 4");
  assertEquals(attentionFormFor(gpu, sizes), before);
});

gpuTest("useTiles() refuses tiles that the device cannot run, and keeps what it had", (gpu) => {
  const before = tilesOf(gpu);
  const many = gpu.info.limits.maxComputeInvocationsPerWorkgroup;
  for (
    const [tile, why] of [
      [{ strategy: "subgroup", lanes: 3, threadsX: 3, rows: 8, columns: 1 }, "lanes: 3"],
      [{ strategy: "workgroup", lanes: 2 * many, threadsX: many, rows: 1, columns: 1 }, `threads at most: ${2 * many}`],
      [{ strategy: "workgroup", lanes: 256, threadsX: 16, rows: 64, columns: 2 }, "bytes at most"],
      [{ strategy: "matrix", lanes: 64, threadsX: 2, rows: 2, columns: 2 }, "no subgroup matrices"],
    ] as const
  ) {
    assertThrows(() => useTiles(gpu, { [gpu.info.name]: { few: tile } }), TileTableError, why);
  }
  assertEquals(tilesOf(gpu), before);
});

gpuTest(
  "tilesOf() gives subgroup matrices to products that may be rounded and are not small, and a table has them apart",
  (gpu) => {
    const { lanes } = gpu.info.subgroupMatrix!;
    const machinesOf = (allowF16Operands: boolean) => {
      const { row, skinny, few, many } = tilesOf(gpu, { allowF16Operands });
      return [row, skinny, few, many].map(({ strategy }) => strategy === "matrix");
    };
    assertEquals(machinesOf(true), [false, false, true, true]);
    assertEquals(machinesOf(false), [false, false, false, false]);
    const tile = { strategy: "matrix" as const, lanes: 2 * lanes, threadsX: 1, rows: 1, columns: 2 };
    assertEquals(useTiles(gpu, { [gpu.info.name]: { many: tile } }), false);
    assertEquals(useTiles(gpu, { [tileTableName(gpu)]: { many: tile } }), true);
    try {
      assertEquals(tileFor(gpu, 1024, 1024, { allowF16Operands: true }), tile);
      assertEquals(machinesOf(false), [false, false, false, false]);
      const refused = (shape: Partial<typeof tile>, why: string) =>
        assertThrows(
          () => useTiles(gpu, { [tileTableName(gpu)]: { many: { ...tile, ...shape } } }),
          TileTableError,
          why,
        );
      refused({ lanes: lanes + 1 }, `must divide the threads: ${lanes + 1}`);
      refused({ lanes: 6 * lanes, threadsX: 4 }, `must divide the threads: ${6 * lanes}`);
      refused({ rows: 1024 }, "bytes at most");
    } finally {
      useTiles(gpu, {});
    }
  },
  { subgroupMatrices: true },
  await lackOfSubgroupMatrices(),
);

Deno.test("parseTileTable() reads back what was written, and says what is wrong with anything else", () => {
  const table = {
    "a GPU": { row: { strategy: "workgroup", lanes: 64, threadsX: 8, rows: 1, columns: 1 } },
    "another": { many: { strategy: "matrix", lanes: 128, threadsX: 2, rows: 4, columns: 4 } },
  };
  assertEquals(parseTileTable(JSON.stringify(table), "tiles.json"), table as unknown as TileTable);
  const tile = table["a GPU"].row;
  for (
    const [text, why] of [
      ["{", "not JSON"],
      ["[]", "object of adapters"],
      [JSON.stringify({ a: { wide: tile } }), '"wide"'],
      [JSON.stringify({ a: { row: { ...tile, strategy: "warp" } } }), '"warp"'],
      [JSON.stringify({ a: { row: { ...tile, rows: 1.5 } } }), "rows of a for row"],
      [JSON.stringify({ a: { row: { ...tile, threadsX: 7 } } }), "multiple of threadsX"],
      [JSON.stringify({ a: { attention: [] } }), "attention of a must be an object"],
      [JSON.stringify({ a: { attention: { wide: { path: "staged" } } } }), 'no heads "wide" wide'],
      [JSON.stringify({ a: { attention: { 40: { path: "flash" } } } }), '"flash"'],
      [
        JSON.stringify({ a: { attention: { 40: { path: "workgroup", threadsX: 8 } } } }),
        "threadsY of a for heads of 40",
      ],
    ]
  ) {
    assertThrows(() => parseTileTable(text, "tiles.json"), TileTableError, why);
  }
});

Deno.test("tileKind() tells products by rows and by results", () => {
  assertEquals([[8, 4096], [9, 4096], [65, 64], [128, 128], [1024, 1024]].map(([m, n]) => tileKind(m, n)), [
    "row",
    "skinny",
    "few",
    "few",
    "many",
  ]);
});
