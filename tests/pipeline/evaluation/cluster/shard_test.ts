import { assert, assertEquals, assertThrows } from "@std/assert";
import { ShardError, shardOfEnvironment, shardVariables } from "../../../../pipeline/evaluation/cluster/shard.ts";

const shardOf = (values: Record<string, string>, shards?: number) =>
  shardOfEnvironment((name) => values[name], { shards });

Deno.test("shardOfEnvironment() reads each scheduler's variables", () => {
  const slurm = { SLURM_ARRAY_TASK_ID: "7", SLURM_ARRAY_TASK_COUNT: "4", SLURM_ARRAY_TASK_MIN: "5" };
  assertEquals(shardOf(slurm), { index: 3, count: 4 });
  assertEquals(shardOf({ ...slurm, SLURM_ARRAY_TASK_STEP: "2" }), { index: 2, count: 4 });
  assertEquals(shardOf({ JOB_COMPLETION_INDEX: "0", BLUEROSE_SHARDS: "3" }), { index: 1, count: 3 });
  assertEquals(shardOf({ HQ_TASK_ID: "2" }, 3), { index: 3, count: 3 });
  const aws = { AWS_BATCH_JOB_ARRAY_INDEX: "1", AWS_BATCH_JOB_ARRAY_SIZE: "2" };
  assertEquals(shardOf(aws), { index: 2, count: 2 });
  // HyperQueue's worker runs in Slurm's array
  assertEquals(shardOf({ ...slurm, HQ_TASK_ID: "0", BLUEROSE_SHARDS: "9" }), { index: 1, count: 9 });
  assertEquals(shardOf({ SLURM_ARRAY_TASK_ID: "", BLUEROSE_SHARDS: "2" }), undefined);
});

Deno.test("shardOfEnvironment() keeps the shards of an array of which only some tasks are submitted again", () => {
  const again = { SLURM_ARRAY_TASK_ID: "7", SLURM_ARRAY_TASK_COUNT: "2", SLURM_ARRAY_TASK_MIN: "3" };
  assertEquals(shardOf({ ...again, BLUEROSE_SHARDS: "8" }), { index: 8, count: 8 });
});

Deno.test("shardOfEnvironment() refuses tasks of unknown arrays, tasks outside of them, and values that are no numbers", () => {
  const cases: [Record<string, string>, string][] = [
    [{ JOB_COMPLETION_INDEX: "0" }, "set BLUEROSE_SHARDS"],
    [{ HQ_TASK_ID: "4", BLUEROSE_SHARDS: "4" }, "not among 4 tasks counted from 0"],
    [{ SLURM_ARRAY_TASK_ID: "4", SLURM_ARRAY_TASK_COUNT: "2", SLURM_ARRAY_TASK_MIN: "0" }, "not among 2 tasks"],
    [{ SLURM_ARRAY_TASK_ID: "1", SLURM_ARRAY_TASK_COUNT: "2", SLURM_ARRAY_TASK_STEP: "2" }, "not among 2 tasks"],
    [{ JOB_COMPLETION_INDEX: "one", BLUEROSE_SHARDS: "3" }, 'must be a whole number, not "one"'],
    [{ JOB_COMPLETION_INDEX: "0", BLUEROSE_SHARDS: "-3" }, "BLUEROSE_SHARDS must be a whole number"],
    [{ JOB_COMPLETION_INDEX: "0", BLUEROSE_SHARDS: "0" }, "not among 0 tasks"],
  ];
  for (const [values, message] of cases) assertThrows(() => shardOf(values), ShardError, message);
});

Deno.test("the command line may read every variable of a shard", async () => {
  const { permissions } = JSON.parse(await Deno.readTextFile(new URL("../../../../deno.json", import.meta.url)));
  for (const name of shardVariables) assert(permissions.bluerose.env.allow.includes(name), name);
});
