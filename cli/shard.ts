/**
 * The shard that `sweep run` draws: that of --shard, or that of an array job's task.
 *
 * @module
 */
import { type Shard, shardOfEnvironment } from "../pipeline/evaluation/cluster/shard.ts";
import { ArgumentError } from "./argument_error.ts";
import { environmentVariable } from "../pipeline/environment.ts";

/**
 * @throws {ArgumentError} where --shard is not K/N
 * @throws {ShardError} where the variables of an array job do not give a shard
 */
export function chooseShard({ shard, shards }: { shard?: string; shards?: number }): Shard {
  if (shard === undefined) return shardOfEnvironment(environmentVariable, { shards }) ?? wholePlan(shards);
  const [, index, count] = /^(\d+)\/(\d+)$/.exec(shard)?.map(Number) ?? [];
  if (index !== undefined && index >= 1 && index <= count) return { index, count };
  throw new ArgumentError(`Cannot use --shard ${JSON.stringify(shard)}: it takes K/N with K from 1 to N, as in 2/8`, {
    argument: "--shard",
  });
}

function wholePlan(shards: number | undefined): Shard {
  if (shards === undefined || shards === 1) return { index: 1, count: 1 };
  throw new ArgumentError(
    `Cannot choose one of ${shards} shards as this is no task of an array job: name it, as in --shard 1/${shards}`,
    { argument: "--shards" },
  );
}
