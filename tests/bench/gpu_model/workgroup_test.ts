import { assertEquals } from "@std/assert";
import { architectures } from "../../../bench/gpu_model/architecture.ts";
import { parseCompiled } from "../../../bench/gpu_model/assembly.ts";
import { judge } from "../../../bench/gpu_model/verdict.ts";

const repeated = (line: string, times: number) => `\t${line}\n\t(then repeated ${times - 1} times)`;
const barrier = "\ts_barrier                                 ; bf8a0000";
const address = (shift: number) => `v_lshlrev_b32_e32 v1, ${shift}, v0`;

/** A loop on navi21: 100 fma, a barrier, 25 reads of workgroup memory at v1, a barrier. */
const kernel = ({ ldsBytes = 16384, between = barrier, setup = address(2), reads = 25 } = {}) =>
  parseCompiled(`Subgroup size\t64
VGPRs\t32
LDS size\t${ldsBytes}
=== Assembly
BB0:
\t${setup}
BB1:
${repeated("v_fmac_f32_e32 v6, v28, v15              ; 560c1f1c", 100)}
${between}
${repeated("ds_read_b32 v5, v1                       ; d8d80000 05000001", reads)}
\ts_waitcnt lgkmcnt(0)                      ; bf8cc07f
${between}
\ts_cmp_lt_u32 s8, s9                       ; bf0a0908
\ts_cbranch_scc1 BB1                        ; bf85ffe0
BB2:
\ts_endpgm                                  ; bf810000
`);

const { navi21, vega20 } = architectures;
/** 16 waves: 4 on each SIMD of a workgroup processor. */
const threads = 1024;

Deno.test("at a barrier, all waves of a workgroup have used each unit, and other workgroups alone use the rest", () => {
  const several = judge(kernel(), navi21, threads), one = judge(kernel({ ldsBytes: 131072 }), navi21, threads);
  assertEquals([several.groups, one.groups], [4, 1]);
  // A wave's 100 fma are 200 cycles, its 25 reads 100: 2 cycles each, for 2 SIMDs. 4 waves take 800
  // and 400, one after the other.
  assertEquals([several.reach, one.reach], [1, 1]);
  assertEquals([several.sustained, several.limit], [1, "valu"]);
  assertEquals([one.sustained, one.limit], [4 * 200 / (800 + 400), "waits"]);
  const two = judge(kernel({ ldsBytes: 65536 }), navi21, threads);
  assertEquals([two.groups, two.sustained], [2, 1]);
});

Deno.test("without its barriers, the same workgroup is bound by its busiest unit", () => {
  const free = judge(kernel({ ldsBytes: 131072, between: "" }), navi21, threads);
  assertEquals([free.groups, free.sustained, free.limit], [1, 1, "valu"]);
});

Deno.test("a wave's latency counts between two barriers where the other waves do not fill it", () => {
  // 4 waves, one on each SIMD. The last of 5 reads is issued after 5 cycles and arrives 62 later.
  // Two barriers, the comparison and the branch take a cycle each.
  const alone = judge(kernel({ ldsBytes: 131072, reads: 5 }), navi21, 256);
  assertEquals([alone.sustained, alone.limit], [200 / (200 + 5 + 62 + 4), "waits"]);
  // Another workgroup computes meanwhile.
  assertEquals(judge(kernel({ ldsBytes: 65536, reads: 5 }), navi21, 256).sustained, 1);
});

Deno.test("bank conflicts lengthen the use of workgroup memory", () => {
  const free = judge(kernel(), navi21, threads), all = judge(kernel({ setup: address(7) }), navi21, threads);
  assertEquals([free.load.conflicts, free.load.unknownAccesses, free.load.sharedAccesses], [0, 0, 25]);
  assertEquals(all.load.conflicts, 25 * 2 * 31 * navi21.sharing);
  assertEquals([all.reach, all.limit, all.sustained], [1, "shared", 200 / (100 + 25 * 2 * 31 * 2)]);
  // Unknown addresses count as free of conflicts, and are reported.
  const unknown = judge(kernel({ setup: "buffer_load_dword v1, v0, s[4:7], 0 offen" }), navi21, threads);
  assertEquals([unknown.load.conflicts, unknown.load.unknownAccesses, unknown.sustained], [0, 25, free.sustained]);
});

/** A loop of `count` fma of 4 bytes each. */
const long = (count: number, turns = "s_cmp_lt_u32 s8, s9   ; bf0a0908") =>
  parseCompiled(`Subgroup size\t64
VGPRs\t32
LDS size\t0
=== Assembly
BB0:
\ts_mov_b32 s8, 0       ; be880380
BB1:
${repeated("v_fmac_f32_e32 v6, v28, v15   ; 560c1f1c", count)}
\t${turns}
\ts_cbranch_scc1 BB1    ; bf85ffe0
BB2:
\ts_endpgm              ; bf810000
`);

Deno.test("a loop that the instruction cache does not hold is fetched again in every turn", () => {
  const fits = judge(long(8000), navi21, 256), exceeds = judge(long(9000), navi21, 256);
  assertEquals([fits.loopBytes, fits.limit, fits.sustained], [32008, "valu", 1]);
  const bytes = 36008;
  assertEquals([exceeds.loopBytes, exceeds.limit, exceeds.reach], [bytes, "fetch", 1]);
  // 2 bytes per cycle for one workgroup of 4 waves on 4 SIMDs; 32 per cycle and SIMD from the
  // cache.
  assertEquals(exceeds.load.fetch, bytes / 32 + bytes / 2);
  // A workgroup of one wave shares its fetches with none: 4 of them fetch in place of one.
  assertEquals(judge(long(9000), navi21, 64).load.fetch, bytes / 32 + 4 * bytes / 2);
  // 12 SIMDs of GCN share a cache.
  assertEquals(judge(long(9000), vega20, 256).load.fetch, bytes / 8 + 3 * bytes / 2);
});
