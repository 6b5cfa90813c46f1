/** Forms and scales of LoRAs, against LyCORIS and PEFT (tests/reference/lora_forms.py). */

import { assert, assertEquals } from "@std/assert";
import type { Gpu } from "../../../engine/gpu.ts";
import { loraTargets, stacksOf } from "../../../pipeline/adapters/loras.ts";
import type { LayerUpdate } from "../../../pipeline/adapters/layer_updates.ts";
import { disposeLora, readLora } from "../../../pipeline/adapters/lora.ts";
import { planLora } from "../../../pipeline/adapters/lora_plan.ts";
import { readLoraConfigs } from "../../../pipeline/adapters/lora_scale.ts";
import { openAdapter } from "../../../pipeline/adapters/open_adapter.ts";
import { StableDiffusionPipeline } from "../../../pipeline/stable_diffusion.ts";
import { loadGoldens, relativeError } from "../../goldens.ts";
import { assertClose, gpuTest } from "../../gpu.ts";
import { changedMini, drawMini, golden } from "./sd1_mini.ts";

const openMini = (gpu: Gpu) => StableDiffusionPipeline.fromPretrained(golden("sd1-mini"), { gpu });

/** An update as one matrix, in float64. */
async function whole({ lowRank, weight }: LayerUpdate): Promise<ArrayLike<number> | undefined> {
  if (weight) return await weight.data();
  if (!lowRank) return undefined;
  const [up, down] = [await lowRank.up.data(), await lowRank.down.data()];
  const rank = lowRank.down.shape[0], inside = down.length / rank, out = up.length / rank;
  return Float64Array.from({ length: out * inside }, (_, at) => {
    let sum = 0;
    for (let r = 0; r < rank; r++) sum += up[Math.floor(at / inside) * rank + r] * down[r * inside + at % inside];
    return lowRank.scale * sum;
  });
}

const files = [
  "lycoris",
  "dora_peft",
  "lora_metadata",
  ...["config", "loha", "lokr"].map((name) => `peft_${name}/adapter_model`),
];

for (const name of files) {
  gpuTest(`${name}: the change of every weight and bias is the library's to 1e-5`, async (gpu) => {
    using pipe = await openMini(gpu);
    const { tensors: expected } = await loadGoldens(`faults/${name}_expected`);
    using file = await openAdapter(golden(`faults/${name}.safetensors`), { defaultNames: [] });
    const plan = planLora(file.weights, loraTargets(pipe));
    const configs = readLoraConfigs(file.weights.name, { metadata: file.weights.metadata, file: file.config });
    const updates = await readLora(gpu, file.weights, plan, { stacks: stacksOf(pipe), configs });
    const actual = new Map<string, ArrayLike<number>>();
    for (const target of ["unet", "text_encoder"] as const) {
      for (const [path, update] of updates[target]) {
        const change = await whole(update);
        if (change) actual.set(`${target}.${path}.weight`, change);
        if (update.bias) actual.set(`${target}.${path}.bias`, await update.bias.data());
      }
    }
    disposeLora(updates);
    assertEquals([...actual.keys()].sort(), [...expected.keys()].sort());
    for (const [key, { data }] of expected) {
      const error = relativeError(actual.get(key)!, data);
      assert(error <= 1e-5, `${key}: ${error}`);
    }
  });
}

for (const name of files) {
  gpuTest(`${name} draws what the changes added to the weights draw, at any strength, and is undone`, async (gpu) => {
    using pipe = await openMini(gpu);
    const { tensors: expected } = await loadGoldens(`faults/${name}_expected`);
    const plain = await drawMini(pipe), before = gpu.memory.live;
    const lora = await pipe.loadLoraWeights(golden(`faults/${name}.safetensors`), { weight: 0.8 });
    for (const scale of [1, 0.25]) {
      using reference = await changedMini(gpu, expected, 0.8 * scale);
      const wanted = await drawMini(reference);
      assertClose(await drawMini(pipe, scale), wanted, 2e-4, `${name} at ${0.8 * scale}`);
      assert(relativeError(wanted, plain) > 1e-3, "the updates must show");
    }
    assertEquals(await drawMini(pipe, 0), plain, "scale 0");
    pipe.unloadLoraWeights(lora);
    assertEquals(await drawMini(pipe), plain, "unloaded");
    assertEquals(gpu.memory.live, before);
  });
}

gpuTest("a folder of PEFT's is scaled as its file is, and a stack is the sum of its changes", async (gpu) => {
  using pipe = await openMini(gpu);
  const changes = new Map<string, { data: Float64Array }>();
  for (const name of files.slice(0, 4)) {
    const { tensors } = await loadGoldens(`faults/${name}_expected`);
    for (const [key, { data }] of tensors) {
      const sum = changes.get(key)?.data ?? new Float64Array(data.length);
      changes.set(key, { data: sum.map((value, i) => value + data[i] / 4) });
    }
  }
  await pipe.loadLoraWeights(golden("faults/peft_config"), { weight: 0.25 });
  for (const name of files.slice(0, 3)) {
    await pipe.loadLoraWeights(golden(`faults/${name}.safetensors`), { weight: 0.25 });
  }
  assertEquals([...pipe.loras.keys()], ["adapter_model", "lycoris", "dora_peft", "lora_metadata"]);
  using reference = await changedMini(gpu, changes);
  assertClose(await drawMini(pipe), await drawMini(reference), 2e-4);
});
