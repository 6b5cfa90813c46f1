/**
 * Manifests for Kubernetes.
 *
 * @module
 */
import { stringify } from "yaml";
import { type ClusterJob, exitCodes, graceSeconds, taskArguments } from "./job.ts";
import { shardsVariable } from "./shard.ts";

/** What Kubernetes needs beside the job. */
export interface KubernetesOptions {
  /** The container image. */
  readonly image: string;
  /** The claim of the volume that holds plan and results. */
  readonly claim: string;
  /** Where containers see that volume. */
  readonly mount: string;
  /** The namespace. Default: that of `kubectl`'s context. */
  readonly namespace?: string;
  /** Pods that run at once. Default: all. */
  readonly parallelism?: number;
}

/**
 * An Indexed Job (batch/v1) with one index for each shard, as a manifest for `kubectl apply -f`. A
 * killed pod is tried again up to `retries` times for each index (`backoffLimitPerIndex`, in
 * Kubernetes 1.29 and later by default); evictions and preemptions do not count; wrong input fails
 * its index at once.
 */
export function kubernetesManifest(job: ClusterJob, options: KubernetesOptions): string {
  return stringify(kubernetesJob(job, options), { lineWidth: 0 });
}

/** The manifest as an object. */
export function kubernetesJob(job: ClusterJob, options: KubernetesOptions): Record<string, unknown> {
  const { name, shards, retries, cpus, memoryGib, gpus, minutes } = job;
  const { image, claim, mount, namespace, parallelism = shards } = options;
  const resources = {
    cpu: String(cpus),
    memory: `${memoryGib}Gi`,
    ...gpus > 0 ? { "nvidia.com/gpu": String(gpus) } : {},
  };
  const onExit = (operator: "In", values: number[]) => ({ containerName: "sweep", operator, values });
  return {
    apiVersion: "batch/v1",
    kind: "Job",
    metadata: { name, ...namespace === undefined ? {} : { namespace }, labels: { app: "bluerose-sweep" } },
    spec: {
      completionMode: "Indexed",
      completions: shards,
      parallelism: Math.min(parallelism, shards),
      backoffLimitPerIndex: retries,
      maxFailedIndexes: shards,
      podFailurePolicy: {
        rules: [
          { action: "FailIndex", onExitCodes: onExit("In", [exitCodes.failed, exitCodes.misused]) },
          { action: "Ignore", onExitCodes: onExit("In", [exitCodes.requeue]) },
          { action: "Ignore", onPodConditions: [{ type: "DisruptionTarget", status: "True" }] },
        ],
      },
      template: {
        metadata: { labels: { app: "bluerose-sweep" } },
        spec: {
          restartPolicy: "Never",
          terminationGracePeriodSeconds: graceSeconds,
          activeDeadlineSeconds: minutes * 60,
          containers: [{
            name: "sweep",
            image,
            // $(NAME) would stand for a variable; $$ is a dollar sign.
            command: taskArguments(job).map((word) => word.replaceAll("$", "$$$$")),
            env: [{ name: shardsVariable, value: String(shards) }],
            resources: { requests: resources, limits: resources },
            volumeMounts: [{ name: "sweep", mountPath: mount }],
          }],
          volumes: [{ name: "sweep", persistentVolumeClaim: { claimName: claim } }],
        },
      },
    },
  };
}
