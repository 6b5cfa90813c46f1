import { assert, assertAlmostEquals, assertEquals, assertStringIncludes } from "@std/assert";
import { architectures } from "../../../bench/gpu_model/architecture.ts";
import { loopsOf, parseCompiled } from "../../../bench/gpu_model/assembly.ts";
import { bytesOf, costOf, fmaOf, isFma } from "../../../bench/gpu_model/load.ts";
import { compareModels, type GpuModelRecord, modelComparisonText, modelText } from "../../../bench/gpu_model/record.ts";
import { judge } from "../../../bench/gpu_model/verdict.ts";
import { parseGpuModel } from "../../../bench/report/gpu_model.ts";

// Shortened from what RADV made of a product on navi21: an outer loop over k that waits for two
// loads from memory, and an inner loop of four turns with a clamped read of workgroup memory.
const captured = `Subgroup size\t64
SGPRs\t128
VGPRs\t40
Spilled VGPRs\t0
Code size\t2624
LDS size\t2560
Scratch size\t0
=== NIR Shader(s)
loop {
}
=== Assembly
BB0:
\ts_load_dwordx4 s[4:7], s[2:3], 0x0                          ; f4080101 fa000000
\tv_mov_b32_e32 v6, 0                                         ; 7e0c0280
BB1:
\tbuffer_load_dwordx4 v[16:19], v11, s[4:7], 0 offen          ; e0381000 8001100b
\tbuffer_load_ushort v20, v12, s[4:7], 0 offen                ; e0481000 8001140c
\ts_waitcnt vmcnt(0)                                          ; bf8c3f70
\tds_write_b128 v13, v[16:19]                                 ; db7c0000 0000100d
\ts_waitcnt lgkmcnt(0)                                        ; bf8cc07f
\ts_barrier                                                   ; bf8a0000
\ts_mov_b32 s5, 0                                             ; be850380
BB2:
\tv_min_u32_e32 v28, 31, v5                                   ; 26380a9f
\tv_lshlrev_b32_e32 v28, 4, v28                               ; 34383884
\tds_read_b128 v[12:15], v28 offset:512                       ; dbfc0200 0c00001c
\ts_waitcnt lgkmcnt(0)                                        ; bf8cc07f
\tv_fmac_f32_e32 v6, v28, v15                                 ; 560c1f1c
\tv_fmac_f32_e32 v7, v28, v14                                 ; 560e1d1c
\tv_fma_f32 v8, v28, v13, v8                                  ; d54b0008 04221b1c
\tv_fma_mix_f32 v9, v28, 1.0, 0 op_sel_hi:[1,0,0]             ; cc200009 0a01e51c
\ts_add_u32 s5, s5, 1                                         ; 80058105
\ts_cmp_lg_u32 s5, 4                                          ; bf078405
\ts_cbranch_scc1 BB2                                          ; bf85fff0
BB3:
\ts_add_u32 s8, s8, 16                                        ; 80089008
\ts_cmp_lt_u32 s8, s9                                         ; bf0a0908
\ts_cbranch_scc1 BB1                                          ; bf85ffe0
BB4:
\ts_endpgm                                                    ; bf810000
`;

Deno.test("the assembly is read with its statistics, blocks, and the turns of its loops", () => {
  const { statistics, blocks } = parseCompiled(captured);
  assertEquals([statistics["VGPRs"], statistics["LDS size"]], [40, 2560]);
  assertEquals(blocks.map(({ name, instructions }) => `${name} ${instructions.length}`), [
    "BB0 2",
    "BB1 7",
    "BB2 11",
    "BB3 3",
    "BB4 1",
  ]);
  assertEquals(blocks[2].instructions[2], { name: "ds_read_b128", operands: "v[12:15], v28 offset:512", bytes: 8 });
  // The limit of the outer loop is in a register, so its turns are unknown.
  assertEquals(loopsOf(blocks), [
    { first: 2, last: 2, trips: 4, isKnown: true },
    { first: 1, last: 3, trips: 1, isKnown: false },
  ]);
});

Deno.test("a register that a loop sets twice is no literal limit", () => {
  const text = captured.replace("s_cmp_lg_u32 s5, 4 ", "s_movk_i32 s6, 0x4\n\ts_cmp_lg_u32 s5, s6 ");
  assertEquals(loopsOf(parseCompiled(text).blocks)[0], { first: 2, last: 2, trips: 4, isKnown: true });
  const twice = text.replace("s_movk_i32 s6, 0x4\n", "s_movk_i32 s6, 0x4\n\ts_movk_i32 s6, 0x8\n");
  assertEquals(loopsOf(parseCompiled(twice).blocks)[0].isKnown, false);
});

Deno.test("a register that a loop sets otherwise than by its step is no counter", () => {
  // as in Dawn's bounds checks, which add the length of an access to its place and compare
  const text = captured.replace("BB3:\n", "BB3:\n\ts_add_u32 s8, s4, s6\n").replace("s8, s9 ", "s8, 0x440 ");
  assertEquals(loopsOf(parseCompiled(text).blocks)[1], { first: 1, last: 3, trips: 1, isKnown: false });
  const counted = captured.replace("s8, s9 ", "s8, 0x440 ");
  assertEquals(loopsOf(parseCompiled(counted).blocks)[1], { first: 1, last: 3, trips: 0x440 / 16, isKnown: true });
});

Deno.test("the verdict sums the loop with its inner turns, and waits only as long as other waves cannot fill", () => {
  const { load, loop, waves, bound, hidden, reach } = judge(parseCompiled(captured), architectures.navi21, 64);
  assertEquals(loop, "BB1–BB3 BB2×4");
  // fma_mix by 1.0 converts and is none.
  assertEquals([load.fma, load.clamps, load.integers, load.sharedReads, load.vectorLoadBytes], [12, 4, 8, 4, 18]);
  assertEquals([load.barriers, load.waits], [1, 6]);
  // Six vector instructions of 2 cycles in each of four turns, three of them fma; four reads and a
  // write of 16 bytes a lane, at 128 bytes a cycle for two SIMDs.
  assertEquals([load.valu, load.fmaCycles, load.shared], [48, 24, 80]);
  assertEquals(bound, "shared");
  assertEquals(hidden, 24 / 80);
  assertEquals(waves, 12); // 512 registers of waves of 64, 40 each
  // Alone, a wave takes more than 700 cycles: 400 for the loads, 60 for each access of LDS. Twelve
  // waves keep LDS busy for 960.
  const one = judge(parseCompiled(captured.replace("LDS size\t2560", "LDS size\t65536")), architectures.navi21, 64);
  assertEquals(one.waves, 0.5);
  assert(one.reach < 0.5 * 24 / 700 && reach === hidden, `${one.reach} ${reach}`);
});

Deno.test("the loop's code has the size of its encodings, and repeated instructions count as often", () => {
  // 21 instructions, six of which have encodings of 8 bytes.
  const { loopBytes, load } = judge(parseCompiled(captured), architectures.navi21, 64);
  assertEquals(loopBytes, 4 * 21 + 4 * 6);
  assertEquals(load.barriers, 1);
  const text = captured.replace("BB4:", "\t(then repeated 7 times)\nBB4:");
  assertEquals(parseCompiled(text).blocks[3].instructions.length, 3 + 7);
});

// From a product in f16 arithmetic: the first products of sums, sums in packed f16, and their
// addition to the sums in f32.
const halves = captured.replace(
  /\tv_fmac_f32_e32 v6.*\n.*\n.*\n/,
  `\tv_pk_mul_f16 v6, v28, v15 op_sel_hi:[1,0]                     ; cc104006 10021f1c
\tv_pk_fma_f16 v6, v28, v14, v6 op_sel:[0,1,0]                  ; cc0e5006 1c1a1d1c
\tv_pk_fma_f16 v7, v28, v13, v7 op_sel_hi:[1,0,1]               ; cc0e4007 141e1b1c
\tv_fma_mix_f32 v8, v6, 1.0, v8 op_sel_hi:[1,0,0]              ; cc200008 0c21e506
`,
);

Deno.test("packed f16 are two multiply-adds of a lane, and their peak is theirs", () => {
  const fma = (name: string) =>
    isFma({ name, operands: "v0, v1, v2" }) ? fmaOf({ name, operands: "v0, v1, v2" }, 64) : 0;
  const names = ["v_pk_fma_f16", "v_fma_f16", "v_fmac_f16_e32", "v_dot2_f32_f16", "v_pk_mul_f16", "v_pk_add_f16"];
  assertEquals(names.map(fma), [2, 1, 1, 2, 0, 0]);
  const { load, hidden, f32Peaks, reach, bound } = judge(parseCompiled(halves), architectures.navi21, 64);
  assertEquals(load.fma, 4 * 2 * 2);
  assertEquals([load.fmaCycles, load.peakCycles], [16, 16]);
  assertEquals([bound, hidden], ["shared", 16 / 80]);
  assertAlmostEquals(f32Peaks, 2 * reach, 1e-9);
  // RDNA 3 issues f32 in pairs, but not packed f16.
  const pairs = judge(parseCompiled(halves), architectures.navi31, 64);
  assertAlmostEquals(pairs.f32Peaks, pairs.reach, 1e-9);
  // A half per lane reaches half of the peak of packed ones.
  const single = judge(parseCompiled(halves.replaceAll("v_pk_fma_f16", "v_fma_f16")), architectures.navi21, 64);
  assertEquals([single.load.fma, single.hidden], [8, 8 / 80]);
});

Deno.test("a workgroup that fills its last wave in part loses that share", () => {
  const compiled = parseCompiled(captured);
  const full = judge(compiled, architectures.vega20, 192), partial = judge(compiled, architectures.vega20, 160);
  assertAlmostEquals(partial.hidden / full.hidden, 160 / 192, 1e-9);
});

Deno.test("accesses have their sizes, and f32 arithmetic is issued in pairs on RDNA 3 alone", () => {
  const names = ["buffer_load_dwordx4", "global_load_b64", "buffer_load_ushort", "ds_read2_b32", "buffer_load_dword"];
  assertEquals(names.map(bytesOf), [16, 8, 2, 8, 4]);
  const cycles = (gpu: string, name: string) => costOf({ name }, 64, architectures[gpu]).cycles;
  assertEquals(["navi21", "navi31", "vega20"].map((gpu) => cycles(gpu, "v_fmac_f32_e32")), [2, 1, 4]);
  assertEquals(["navi21", "navi31", "vega20"].map((gpu) => cycles(gpu, "v_add_nc_u32_e32")), [2, 2, 4]);
});

const recordOf = (reach: number): GpuModelRecord => {
  const kernel = {
    ...judge(parseCompiled(captured), architectures.navi21, 64),
    case: "matmul row",
    kernel: "matmul",
    wave: 64,
    registers: 40,
    spilled: 2,
    scratchBytes: 8,
    ldsBytes: 2560,
    codeBytes: 2624,
    reach,
    sustained: reach / 2,
  };
  const record = { compiler: "mesa", runtime: "Deno", date: "2026-01-01T00:00:00.000Z" };
  return { ...record, gpus: [{ gpu: "navi21", kernels: [kernel] }] };
};

Deno.test("the table aligns its columns and shows spills", () => {
  const [gpu, head, row] = modelText(recordOf(0.25).gpus[0]).split("\n");
  assertEquals([gpu, head.length], ["navi21", row.length]);
  assertStringIncludes(row, "2 + 8 B");
  assertStringIncludes(row, "25 %");
  // Of the clamped read and the write at registers that the code does not set.
  assertStringIncludes(row, "+0 % (5 of 5 unknown)");
});

Deno.test("records are compared by modeled time", () => {
  const before = parseGpuModel(JSON.stringify(recordOf(0.25)), "before.json");
  const comparison = compareModels(before, recordOf(0.5));
  assertEquals(comparison.changes, [{ name: "navi21, matmul row, matmul", beforeMs: 8, afterMs: 4, ratio: 0.5 }]);
  const text = modelComparisonText(comparison, "before.json");
  assertStringIncludes(
    text,
    "Compared with before.json (ratio of modeled times, in times at the fma peak, new / old)",
  );
  assertStringIncludes(text, "8.00 →      4.00  ×0.500");
  // Records from before `sustained` are compared by reach.
  const { sustained: _, ...older } = before.gpus[0].kernels[0];
  const old = parseGpuModel(JSON.stringify({ ...before, gpus: [{ gpu: "navi21", kernels: [older] }] }), "old.json");
  assertEquals(compareModels(old, recordOf(0.5)).changes[0].beforeMs, 4);
});
