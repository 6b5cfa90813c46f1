import { assertEquals } from "@std/assert";
import { accessesOf } from "../../../bench/gpu_model/accesses.ts";
import { type Architecture, architectures } from "../../../bench/gpu_model/architecture.ts";
import { type Compiled, parseCompiled } from "../../../bench/gpu_model/assembly.ts";
import { bankConflicts, laneGroups } from "../../../bench/gpu_model/banks.ts";

/**
 * The element of workgroup memory that a thread of 128 writes and reads, as in pattern_cases.ts.
 */
interface Pattern {
  readonly bytes: number;
  readonly write: (t: number) => number;
  readonly read: (t: number) => number;
}

const last = (t: number) => (127 - t) & 63;
const patterns: Readonly<Record<string, Pattern>> = {
  "stride 1": { bytes: 4, write: (t) => t, read: (t) => 127 - t },
  "stride 32": { bytes: 4, write: (t) => (t & 63) * 32 + (t >> 6), read: last },
  "stride 33": { bytes: 4, write: (t) => (t & 63) * 33 + (t >> 6), read: (t) => last(t) * 33 },
  "broadcast": { bytes: 4, write: (t) => t, read: (t) => 127 - (t & 64) },
  "vec2 stride 1": { bytes: 8, write: (t) => t, read: (t) => 127 - t },
  "vec2 stride 16": { bytes: 8, write: (t) => t, read: (t) => last(t) * 16 },
  "vec4 stride 1": { bytes: 16, write: (t) => t, read: (t) => 127 - t },
  "vec4 stride 8": { bytes: 16, write: (t) => t, read: (t) => last(t) * 8 },
  "vec4 column of 10": { bytes: 16, write: (t) => t, read: (t) => (127 - t) % 10 },
};

const gpus = ["navi21", "navi31", "vega20"];

/** What RADV made of the patterns. */
async function compiledPatterns(gpu: string): Promise<Map<string, Compiled>> {
  const text = await Deno.readTextFile(new URL(`patterns/${gpu}.txt`, import.meta.url));
  return new Map(
    text.split("### ").slice(1).map((each) => {
      const [name] = each.split("\n", 1);
      return [name, parseCompiled(each.slice(name.length + 1))];
    }),
  );
}

/**
 * The last write and read of the code: those of the pattern, after workgroup memory was cleared.
 */
function patternAccesses<T>(accesses: Map<{ readonly name: string }, T>): { write: T; read: T } {
  const of = (names: RegExp) => [...accesses].findLast(([{ name }]) => names.test(name))![1];
  return { write: of(/^ds_(write|store)/), read: of(/^ds_(read|load)/) };
}

Deno.test("addresses in workgroup memory are those that the WGSL states, on each GPU and in each wave", async () => {
  for (const gpu of gpus) {
    const compiled = await compiledPatterns(gpu);
    assertEquals([...compiled.keys()], Object.keys(patterns));
    for (const [name, { bytes, write, read }] of Object.entries(patterns)) {
      for (const first of [0, 64]) {
        const found = patternAccesses(accessesOf(compiled.get(name)!.blocks, 64, first));
        for (const [access, element] of [[found.write, write], [found.read, read]] as const) {
          const expected = Array.from({ length: 64 }, (_, lane) => bytes * element(first + lane));
          const { addresses } = access;
          assertEquals(addresses?.isRelative, false, `${gpu}, ${name}`);
          assertEquals(addresses && [...addresses.values], expected, `${gpu}, ${name}`);
        }
      }
    }
  }
});

/**
 * Cycles beyond one per group of lanes: words of a bank, one after another, each bank by itself.
 */
function expectedConflicts(
  addresses: readonly number[],
  groups: readonly (readonly number[])[],
  bytes: number,
): number {
  return groups.map((group) => {
    const words = new Set(
      group.flatMap((lane) => Array.from({ length: bytes / 4 }, (_, i) => addresses[lane] / 4 + i)),
    );
    const inBank = Array.from({ length: 32 }, (_, bank) => [...words].filter((word) => word % 32 === bank).length);
    return Math.max(...inBank) - 1;
  }).reduce((sum, extra) => sum + extra, 0);
}

const sideBySide = (size: number) =>
  Array.from({ length: 64 / size }, (_, i) => Array.from({ length: size }, (_, j) => i * size + j));
/** Of CDNA, as AMD lists them. */
const interleaved = [[0, 20], [4, 16], [8, 28], [12, 24], [32, 52], [36, 48], [40, 60], [44, 56]]
  .map((quads) => quads.flatMap((quad) => [0, 1, 2, 3].map((i) => quad + i)));

Deno.test("lanes are served 128 bytes at a time, and GCN interleaves them when it reads 16 bytes each", () => {
  const { navi21, vega20 } = architectures;
  for (const a of [navi21, vega20]) {
    assertEquals(laneGroups(64, 4, true, a), sideBySide(32));
    assertEquals(laneGroups(64, 8, true, a), sideBySide(16));
    assertEquals(laneGroups(64, 16, false, a), sideBySide(8));
    assertEquals(laneGroups(64, 2, true, a), sideBySide(32));
  }
  assertEquals(laneGroups(64, 16, true, navi21), sideBySide(8));
  assertEquals(laneGroups(64, 16, true, vega20), interleaved);
  assertEquals(laneGroups(32, 16, true, vega20), interleaved.slice(0, 4));
});

Deno.test("bank conflicts of known patterns: none side by side, padded or broadcast, all with a stride of 128 bytes", async () => {
  const conflictsOf = async (gpu: string, a: Architecture = architectures[gpu]) =>
    new Map(
      [...await compiledPatterns(gpu)].map(([name, { blocks }]) =>
        [name, patternAccesses(bankConflicts(blocks, { wave: 64, threads: 128 }, a))] as const
      ),
    );
  for (const gpu of gpus) {
    const found = await conflictsOf(gpu);
    for (const name of ["stride 1", "stride 33", "broadcast", "vec2 stride 1", "vec4 stride 1"]) {
      assertEquals(found.get(name), { write: 0, read: 0 }, `${gpu}, ${name}`);
    }
    // 2 groups of 32 lanes in 32 turns, 4 groups of 16 in 16, 8 groups of 8 in 8.
    assertEquals(found.get("stride 32"), { write: 2 * 31, read: 0 }, gpu);
    assertEquals(found.get("vec2 stride 16"), { write: 0, read: 4 * 15 }, gpu);
    assertEquals(found.get("vec4 stride 8"), { write: 0, read: 8 * 7 }, gpu);
    for (const [name, { bytes, read }] of Object.entries(patterns)) {
      const groups = bytes < 16 ? sideBySide(128 / bytes) : gpu === "vega20" ? interleaved : sideBySide(8);
      const expected = [0, 64].map((first) =>
        expectedConflicts(Array.from({ length: 64 }, (_, lane) => bytes * read(first + lane)), groups, bytes)
      );
      assertEquals(found.get(name)?.read, (expected[0] + expected[1]) / 2, `${gpu}, ${name}`);
    }
  }
});

/** Code of one block on navi21, after which LDS is read at v1. */
const readAfter = (...code: string[]) =>
  parseCompiled(
    `Subgroup size\t64\n=== Assembly\nBB0:\n${
      [...code, "ds_read_b32 v9, v1"].map((line) => line.startsWith("BB") ? line : `\t${line}`).join("\n")
    }\n`,
  ).blocks;
const addressesAfter = (...code: string[]) => {
  const [access] = accessesOf(readAfter(...code), 64, 0).values();
  return { ...access, values: access.addresses && [...access.addresses.values] };
};

Deno.test("an address that depends on a buffer's content is unknown, unless all lanes add the same to it", () => {
  const loaded = "buffer_load_dword v2, v0, s[4:7], 0 offen";
  assertEquals(addressesAfter(loaded, "v_lshlrev_b32_e32 v1, 2, v2").addresses, undefined);
  const blocks = readAfter(loaded, "v_lshlrev_b32_e32 v1, 2, v2");
  assertEquals([...bankConflicts(blocks, { wave: 64, threads: 64 }, architectures.navi21).values()], [undefined]);
  // s12 is a parameter of the kernel: 128-byte strides from wherever it says.
  const relative = readAfter(
    "s_buffer_load_dword s12, s[8:11], 0x4",
    "v_mul_u32_u24_e32 v1, 0x80, v0",
    "v_add_nc_u32_e32 v1, s12, v1",
  );
  assertEquals([...bankConflicts(relative, { wave: 64, threads: 64 }, architectures.navi21).values()], [2 * 31]);
  // Clamped against the parameter, each lane may differ.
  assertEquals(
    addressesAfter("s_buffer_load_dword s12, s[8:11], 0x4", "v_min_u32_e32 v1, s12, v0").addresses,
    undefined,
  );
});

Deno.test("lanes that are off do not take part, and what they hold stays", () => {
  const half = addressesAfter(
    "v_lshlrev_b32_e32 v1, 7, v0",
    "v_cmp_gt_u32_e32 vcc, 1, v0",
    "s_and_saveexec_b64 s[0:1], vcc",
  );
  assertEquals(half.lanes?.filter((bit) => bit).length, 1);
  // An assignment in some lanes, then all lanes again.
  const merged = addressesAfter(
    "v_lshlrev_b32_e32 v1, 2, v0",
    "v_cmp_gt_u32_e32 vcc, 32, v0",
    "s_and_saveexec_b64 s[0:1], vcc",
    "v_mov_b32_e32 v1, 0x1000",
    "s_mov_b64 exec, s[0:1]",
  );
  assertEquals(merged.values, Array.from({ length: 64 }, (_, lane) => lane < 32 ? 4096 : 4 * lane));
  // The same where the code does not tell which lanes.
  const unknown = addressesAfter(
    "v_lshlrev_b32_e32 v1, 2, v0",
    "v_cmp_gt_u32_e32 vcc, v5, v0",
    "s_and_saveexec_b64 s[0:1], vcc",
    "v_mov_b32_e32 v1, 0x1000",
    "s_mov_b64 exec, s[0:1]",
  );
  assertEquals(unknown.addresses, undefined);
});

Deno.test("an address that a loop advances by the same in all lanes keeps its pattern", () => {
  const loop = (step: string) => [
    "v_lshlrev_b32_e32 v1, 7, v0",
    "v_lshlrev_b32_e32 v3, 2, v0",
    "s_mov_b32 s5, 0",
    "BB1:",
    "ds_read_b32 v8, v1",
    `v_add_nc_u32_e32 v1, ${step}, v1`,
    "s_add_u32 s5, s5, 1",
    "s_cmp_lg_u32 s5, s6",
    "s_cbranch_scc1 BB1",
  ];
  const conflicts = (step: string) =>
    bankConflicts(readAfter(...loop(step)), { wave: 64, threads: 64 }, architectures.navi21).values().next().value;
  assertEquals(conflicts("0x100"), 2 * 31);
  assertEquals(conflicts("v3"), undefined);
});
