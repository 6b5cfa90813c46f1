/**
 * Sweeps on clusters: which shard a task draws, and job files for schedulers.
 *
 * @module
 */
export { type ClusterJob, exitCodes } from "./job.ts";
export { hyperQueueScript } from "./hyperqueue.ts";
export { kubernetesJob, kubernetesManifest, type KubernetesOptions } from "./kubernetes.ts";
export { type Shard, ShardError, shardOfEnvironment } from "./shard.ts";
export { slurmScript } from "./slurm.ts";
