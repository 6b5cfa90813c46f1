import { kubernetesManifest } from "../pipeline/evaluation/cluster/kubernetes.ts";
import { clusterFlags, clusterJob, giveJobFile } from "./cluster_flags.ts";
import { type Command, defineCommand } from "./command.ts";

/** How an image starts the program whose checkout is /bluerose; see docs/cluster.md. */
const imageCommand = ["deno", "run", "-q", "-P=bluerose", "--no-prompt", "--config", "/bluerose/deno.json"];

/** `bluerose sweep kubernetes`: writes the manifest of an Indexed Job. */
export const command: Command = defineCommand({
  name: "sweep kubernetes",
  summary: "write a manifest for Kubernetes: an Indexed Job with one index for each shard",
  usage: "PLAN --image IMAGE --claim CLAIM [-o sweep.yaml] [flags]",
  details:
    "The plan must lie on the claimed volume, under its own name; results are written to the folder --results of that volume. A killed " +
    "pod is tried again up to --retries times for each index; evictions do not count, and wrong input fails its index at once.",
  positionals: { placeholder: "PLAN", min: 1, max: 1, access: { kind: "read", purpose: "read the plan" } },
  flags: {
    ...clusterFlags,
    command: { ...clusterFlags.command, defaultText: "Deno, on a checkout in /bluerose" },
    image: { kind: "text", required: true, group: "Kubernetes", help: "container image" },
    claim: { kind: "text", required: true, group: "Kubernetes", help: "claim of the volume with the plan and results" },
    mount: {
      kind: "text",
      placeholder: "DIR",
      default: "/sweep",
      group: "Kubernetes",
      help: "where pods see the volume",
    },
    namespace: { kind: "text", group: "Kubernetes", defaultText: "the context's", help: "namespace" },
    parallelism: { kind: "whole", min: 1, group: "Kubernetes", defaultText: "all", help: "pods that run at once" },
  },
  examples: [
    {
      line: "sweep kubernetes plan.json --shards 32 --image registry.example/bluerose:1 --claim sweep -o sweep.yaml",
      says: "32 indices",
    },
  ],
  async run(values, { positionals: [planPath] }) {
    const mount = values.mount.replace(/\/+$/, "");
    const below = (path: string) => path.startsWith("/") ? path : `${mount}/${path}`;
    const { results, pictures } = values;
    const onVolume = {
      ...values,
      results: below(results),
      pictures: pictures === undefined ? undefined : below(pictures),
    };
    const job = await clusterJob(onVolume, {
      planPath,
      taskPlan: `${mount}/${planPath.split(/[\\/]/).at(-1)}`,
      command: [...imageCommand, "/bluerose/cli/main.ts"],
    });
    await giveJobFile(values.output, kubernetesManifest(job, { ...values, mount }), "kubectl apply -f");
  },
});
