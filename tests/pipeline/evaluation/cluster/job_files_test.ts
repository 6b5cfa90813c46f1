import { assert, assertEquals, assertThrows } from "@std/assert";
import { type IJob, Job } from "kubernetes-models/batch/v1/Job";
import { parse } from "yaml";
import { hyperQueueScript } from "../../../../pipeline/evaluation/cluster/hyperqueue.ts";
import type { ClusterJob } from "../../../../pipeline/evaluation/cluster/job.ts";
import { kubernetesManifest } from "../../../../pipeline/evaluation/cluster/kubernetes.ts";
import { OptionError } from "../../../../pipeline/errors.ts";
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
  assert(script.includes("bluerose sweep run '/sweep/my plan.json' -o '/sweep/results/results_{shard}.jsonl'"), script);
  assert(!slurmScript({ ...job, gpus: 0 }).includes("gres"));
});

Deno.test("HyperQueue's script is an array with one task for each shard, which bash reads", async () => {
  const script = hyperQueueScript(job);
  assertEquals(await syntax(script), "");
  for (const wanted of ["--array 0-7", "--cpus 2", "--resource gpus/nvidia=1", "--crash-limit 4"]) {
    assert(script.includes(`#HQ ${wanted}\n`), wanted);
  }
});

/** An argument of an #SBATCH line, as get_argument() of Slurm's src/sbatch/opt.c reads it. */
function sbatchArgument(text: string): string {
  let argument = "", quote = "", isEscaped = false;
  for (const character of text) {
    if (isEscaped) isEscaped = false;
    else if (character === "\\") {
      isEscaped = true;
      continue;
    } else if (quote !== "") {
      if (character === quote) {
        quote = "";
        continue;
      }
    } else if (character === '"' || character === "'") {
      quote = character;
      continue;
    } else if (character === " " || character === "#") break;
    argument += character;
  }
  return argument;
}

Deno.test("folders with any characters are the same in Slurm's directive and in the command", async () => {
  for (const output of ["/r", "/my results", "/100%/%A%", `/"a" 'b'`, "/a#b $HOME `c` (d)", "/r{1,2}", "/rösen; e"]) {
    const script = slurmScript({ ...job, output }, { partition: "a b" });
    const [, directive] = /^#SBATCH --output=(.*)$/m.exec(script)!;
    const pattern = sbatchArgument(directive);
    const names: Record<string, string> = { "%%": "%", "%A": "77", "%a": "3" };
    assertEquals(pattern.replace(/%./g, (symbol) => names[symbol]), `${output}/slurm_77_3.log`);
    assert(script.includes('#SBATCH --partition="a b"\n'));
    const words = script.split("\n").find((line) => line.startsWith("bluerose"))!.replace(/ &$/, "");
    const { stdout } = await new Deno.Command("bash", { args: ["-c", `printf '%s\n' ${words}`] }).output();
    assertEquals(new TextDecoder().decode(stdout).split("\n")[5], `${output}/results_{shard}.jsonl`);
  }
  for (const output of ["/a\\b", "/a\nb"]) assertThrows(() => slurmScript({ ...job, output }), OptionError, "output");
  assertThrows(() => slurmScript(job, { partition: "a\n#SBATCH --x" }), OptionError, "partition");
});

Deno.test("HyperQueue's directive quotes spaces, and folders that it cannot hold are refused", () => {
  const directive = (output: string) => /^#HQ --stdout (.*)$/m.exec(hyperQueueScript({ ...job, output }))![1];
  assertEquals(directive("/r"), "/r/hq_%{JOB_ID}_%{TASK_ID}.log");
  assertEquals(directive("/it's my 50% #1"), `"/it's my 50% #1/hq_%{JOB_ID}_%{TASK_ID}.log"`);
  for (const output of [" /r", '/"r"', "/a\\b", "/a:rm", "/a\nb", "/%{CWD}"]) {
    assertThrows(() => directive(output), OptionError, "--stdout");
  }
});

Deno.test("a command's dollar signs stand for themselves in the manifest, where $(NAME) is a variable", () => {
  const manifest = parse(kubernetesManifest({ ...job, output: "/sweep/$(HOME)/$$ 'r'\n" }, volume));
  const { command } = manifest.spec.template.spec.containers[0];
  assertEquals(command[5], "/sweep/$$(HOME)/$$$$ 'r'\n/results_{shard}.jsonl");
});
