import { assert, assertEquals, assertThrows } from "@std/assert";
import { type IJob, Job } from "kubernetes-models/batch/v1/Job";
import { parse } from "yaml";
import { hyperQueueScript } from "../../../../pipeline/evaluation/cluster/hyperqueue.ts";
import type { ClusterJob } from "../../../../pipeline/evaluation/cluster/job.ts";
import { kubernetesManifest } from "../../../../pipeline/evaluation/cluster/kubernetes.ts";
import { slurmScript } from "../../../../pipeline/evaluation/cluster/slurm.ts";

const job: ClusterJob = {
  name: "sweep-0123",
  plan: "/sweep/my plan.json",
  output: "/sweep/results",
  pictures: "/sweep/pictures",
  command: ["bluerose"],
  shards: 8,
  retries: 3,
  batchSize: 4,
  cpus: 2,
  memoryGib: 12,
  gpus: 1,
  minutes: 90,
};
const volume = { image: "registry.example/bluerose:1", claim: "sweep", mount: "/sweep" };

Deno.test("the manifest is a Job by Kubernetes' schema, with all of its parts known to the API", () => {
  const manifest: IJob = parse(kubernetesManifest(job, { ...volume, parallelism: 4, namespace: "lab" }));
  const whole = new Job(manifest);
  whole.validate();
  const { spec, metadata } = whole;
  assertEquals(metadata?.namespace, "lab");
  assertEquals([spec?.completionMode, spec?.completions, spec?.parallelism], ["Indexed", 8, 4]);
  assertEquals(spec?.backoffLimitPerIndex, 3);
  assertEquals(spec?.podFailurePolicy?.rules.map(({ action }) => action), ["FailIndex", "Ignore", "Ignore"]);
  const [container] = spec!.template.spec!.containers;
  assertEquals(container.env, [{ name: "BLUEROSE_SHARDS", value: "8" }]);
  assertEquals(container.resources?.limits, { cpu: "2", memory: "12Gi", "nvidia.com/gpu": "1" });
  assertEquals(container.command?.slice(0, 6), [
    "bluerose",
    "sweep",
    "run",
    "/sweep/my plan.json",
    "-o",
    "/sweep/results/results_{shard}.jsonl",
  ]);
  // The schema does refuse what does not fit.
  const wrong = parse(kubernetesManifest(job, volume));
  wrong.spec.completions = "eight";
  assertThrows(() => new Job(wrong).validate(), Error, "completions");
  delete wrong.spec.template.spec.containers[0].name;
  assertThrows(() => new Job(wrong).validate());
});

/**
 * Paths of keys that the API does not know. The schema lets unknown keys pass, whatever their
 * value; of known ones it refuses values of some type.
 */
function unknownKeys(manifest: object): string[] {
  const unknown: string[] = [];
  const visit = (node: object, path: string) => {
    for (const [key, value] of Object.entries(node)) {
      const isKnown = [{}, [], "", 0.5, true].some((wrong) => {
        Object.assign(node, { [key]: wrong });
        try {
          new Job(manifest as IJob).validate();
          return false;
        } catch {
          return true;
        }
      });
      Object.assign(node, { [key]: value });
      if (!isKnown) unknown.push(`${path}${key}`);
      if (typeof value === "object" && value !== null) visit(value, `${path}${key}.`);
    }
  };
  visit(manifest, "");
  return unknown;
}

Deno.test("the manifest has no key that the API does not know", () => {
  const options = { ...volume, parallelism: 4, namespace: "lab" };
  assertEquals(unknownKeys(parse(kubernetesManifest(job, options))), []);
  const wrong = parse(kubernetesManifest(job, options));
  wrong.spec.backoffLimitPerIndx = 3;
  wrong.spec.template.spec.containers[0].imag = "x";
  assertEquals(unknownKeys(wrong).sort(), ["spec.backoffLimitPerIndx", "spec.template.spec.containers.0.imag"]);
});

/** Runs a script's text by bash, which only reads it. */
async function syntax(script: string): Promise<string> {
  const child = new Deno.Command("bash", { args: ["-n"], stdin: "piped", stderr: "piped" }).spawn();
  const writer = child.stdin.getWriter();
  await writer.write(new TextEncoder().encode(script));
  await writer.close();
  const { stderr } = await child.output();
  return new TextDecoder().decode(stderr);
}

Deno.test("Slurm's script is an array with one task for each shard, which bash reads", async () => {
  const script = slurmScript(job, { partition: "gpu" });
  assertEquals(await syntax(script), "");
  const directives = script.split("\n").filter((line) => line.startsWith("#SBATCH"));
  for (
    const wanted of ["--array=0-7", "--time=01:30:00", "--mem=12G", "--gres=gpu:1", "--partition=gpu", "--requeue"]
  ) assert(directives.includes(`#SBATCH ${wanted}`), wanted);
  assert(script.includes("export BLUEROSE_SHARDS=8\n"));
  assert(script.includes("bluerose sweep run '/sweep/my plan.json' -o /sweep/results/results_{shard}.jsonl"), script);
  assert(!slurmScript({ ...job, gpus: 0 }).includes("gres"));
});

Deno.test("HyperQueue's script is an array with one task for each shard, which bash reads", async () => {
  const script = hyperQueueScript(job);
  assertEquals(await syntax(script), "");
  for (const wanted of ["--array 0-7", "--cpus 2", "--resource gpus/nvidia=1", "--crash-limit 4"]) {
    assert(script.includes(`#HQ ${wanted}\n`), wanted);
  }
});
