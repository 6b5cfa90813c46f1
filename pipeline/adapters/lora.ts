/**
 * Reads LoRA files: plain pairs (arXiv 2106.09685), LyCORIS' forms (2309.14859) and DoRA
 * (2402.09353), as changes of layers.
 */

import type { Gpu } from "../../engine/gpu.ts";
import { Tensor } from "../../engine/tensor.ts";
import type { Weights } from "../checkpoint/safetensors/weights.ts";
import type { AdapterStack } from "./adapter_stack.ts";
import { disposeUpdates, type LayerUpdate } from "./layer_updates.ts";
import type { LoraPart, PerTarget } from "./lora_keys.ts";
import { type LoraPlan, type PlannedModule, refusal } from "./lora_plan.ts";
import type { LoraConfigs } from "./lora_scale.ts";
import { magnitudeAxis } from "./lora_shapes.ts";
import { checkFinite, readFinite } from "./read_finite.ts";
import {
  type BaseWeight,
  channelScaleChange,
  decomposedChange,
  hadamardChange,
  type HadamardHalf,
  type HostTensor,
  kroneckerChange,
  type KroneckerFactor,
  type Matrix,
  pairChange,
  scaled,
  tuckerPairChange,
  type WeightChange,
} from "./weight_change.ts";

/** The adapter stacks of the models that a LoRA changes. */
export type LoraStacks = PerTarget<AdapterStack>;

/** A LoRA's updates by model and layer key. */
export type LoraUpdates = Required<PerTarget<Map<string, LayerUpdate>>>;

/**
 * Uploads a LoRA to the device and returns its updates by layer key. The caller disposes of the
 * tensors after adding them to the models' stacks.
 *
 * @param plan from `planLora`
 * @throws {AdapterError} for a tensor that holds NaN or an infinity, or a scale that is not finite
 * @throws {SafetensorsError} if the file is malformed
 */
export async function readLora(
  gpu: Gpu,
  weights: Weights,
  plan: LoraPlan,
  options: { stacks: LoraStacks; configs: LoraConfigs },
): Promise<LoraUpdates> {
  const updates: LoraUpdates = { unet: new Map(), text_encoder: new Map(), text_encoder_2: new Map() };
  try {
    for (const module of plan.modules) {
      const update = await readModule(gpu, new ModuleTensors(weights, module), options);
      updates[module.target].set(module.path, update);
    }
    return updates;
  } catch (error) {
    disposeLora(updates);
    throw error;
  }
}

/** Frees the tensors returned by {@linkcode readLora}. */
export function disposeLora(updates: LoraUpdates): void {
  disposeUpdates(Object.values(updates).flatMap((ofModel) => [...ofModel.values()]));
}

/** The tensors of one module, by part. */
class ModuleTensors {
  constructor(readonly weights: Weights, readonly module: PlannedModule) {}

  has(part: LoraPart): boolean {
    return this.module.keys.has(part);
  }

  async read(part: LoraPart): Promise<HostTensor> {
    return await readFinite(this.weights, this.module.keys.get(part)!);
  }

  async maybe(part: LoraPart): Promise<HostTensor | undefined> {
    return this.has(part) ? await this.read(part) : undefined;
  }

  /** A tensor on the device. f16 stays f16. */
  async upload(gpu: Gpu, part: LoraPart): Promise<Tensor> {
    const { weights } = this, key = this.module.keys.get(part)!;
    const { dtype, shape } = weights.info(key);
    if (dtype !== "F16") return Tensor.from(gpu, (await readFinite(weights, key)).data, shape);
    const bytes = await weights.read(key);
    checkFinite(weights, key, bytes, "f16");
    return Tensor.from(gpu, new Uint16Array(bytes.buffer), shape);
  }
}

async function readModule(
  gpu: Gpu,
  tensors: ModuleTensors,
  { stacks, configs }: { stacks: LoraStacks; configs: LoraConfigs },
): Promise<LayerUpdate> {
  const { module } = tensors;
  const scale = await scaleOf(tensors, configs);
  const bias = await biasOf(gpu, tensors, scale);
  try {
    if (module.form === "LoRA" && !module.isDora) {
      const down = await tensors.upload(gpu, "down");
      try {
        return { lowRank: { down, up: await tensors.upload(gpu, "up"), scale }, bias };
      } catch (error) {
        down[Symbol.dispose]();
        throw error;
      }
    }
    const { layer } = stacks[module.target]!.layers.get(module.path)!;
    const base = async (): Promise<BaseWeight> => ({ shape: layer.shape, data: await layer.read() });
    const change = await changeOf(tensors, base);
    if (change === undefined) return { bias };
    const whole = module.isDora
      ? decomposedChange(await base(), scaled(change, scale), await magnitudesOf(tensors, layer.shape))
      : change;
    const checked = <T extends Matrix>(matrix: T): T => {
      if (matrix.data.every(Number.isFinite)) return matrix;
      const reason = `the change of ${module.path} is not finite: its numbers, or its alpha, are too large`;
      throw refusal(tensors.weights.name, reason, [...module.keys.values()]);
    };
    if ("whole" in whole) {
      const { data } = checked(module.isDora ? whole.whole : (scaled(whole, scale) as { whole: Matrix }).whole);
      return { weight: Tensor.from(gpu, data, layer.shape), bias };
    }
    const upload = ({ rows, columns, data }: Matrix, shape = [rows, columns]) => Tensor.from(gpu, data, shape);
    const up = checked(whole.up), down = checked(whole.down);
    return { lowRank: { up: upload(up), down: upload(down, [down.rows, ...layer.shape.slice(1)]), scale }, bias };
  } catch (error) {
    bias?.[Symbol.dispose]();
    throw error;
  }
}

/** α / rank: of the file's own α, else of the adapter's configuration, else 1. */
async function scaleOf({ weights, module }: ModuleTensors, configs: LoraConfigs): Promise<number> {
  const { keys, rank, path, target, form } = module;
  const key = keys.get("alpha");
  const isScaled = form === "LoRA" || form === "LoCon (Tucker)" || form === "LoHa" || form === "LoKr";
  if (!isScaled) return 1;
  if (key === undefined) return configs[target]?.scale(path, rank) ?? 1;
  if (rank === undefined) return 1; // LoKr of two whole matrices
  const alpha = (await weights.float64(key))[0], scale = alpha / rank;
  if (Number.isFinite(Math.fround(scale))) return scale; // the device computes in f32
  throw refusal(weights.name, `its alpha is not a finite number of f32: ${alpha}`, [key]);
}

async function biasOf(gpu: Gpu, tensors: ModuleTensors, scale: number): Promise<Tensor | undefined> {
  const whole = await tensors.maybe("diff_b") ?? await tensors.maybe("b_norm");
  if (whole) return Tensor.from(gpu, whole.data, [whole.data.length]);
  // PEFT's lora_bias belongs to the second factor, and is scaled with it.
  const ofFactor = await tensors.maybe("up_bias");
  return ofFactor && Tensor.from(gpu, ofFactor.data.map((value) => value * scale), [ofFactor.data.length]);
}

/** ΔW before α / rank; `undefined` where only the bias changes. */
async function changeOf(
  tensors: ModuleTensors,
  base: () => Promise<BaseWeight>,
): Promise<WeightChange | undefined> {
  const half = async (a: LoraPart, b: LoraPart, core: LoraPart): Promise<HadamardHalf> => ({
    a: await tensors.read(a),
    b: await tensors.read(b),
    core: await tensors.maybe(core),
  });
  const factor = async (whole: LoraPart, a: LoraPart, b: LoraPart, core: LoraPart): Promise<KroneckerFactor> =>
    tensors.has(whole) ? { whole: await tensors.read(whole) } : await half(a, b, core);
  switch (tensors.module.form) {
    case "LoRA":
      return pairChange(await tensors.read("up"), await tensors.read("down"));
    case "LoCon (Tucker)":
      return tuckerPairChange(await tensors.read("up"), await tensors.read("mid"), await tensors.read("down"));
    case "LoHa":
      return hadamardChange(await half("w1_a", "w1_b", "t1"), await half("w2_a", "w2_b", "t2"));
    case "LoKr":
      // "mid" never belongs to LoKr: w₁ has no core
      return kroneckerChange(
        await factor("k1", "k1_a", "k1_b", "mid"),
        await factor("k2", "k2_a", "k2_b", "kt2"),
      );
    case "full difference":
    case "norm difference": {
      const whole = await tensors.maybe("diff") ?? await tensors.maybe("w_norm");
      return whole &&
        { whole: { rows: whole.shape[0], columns: whole.data.length / whole.shape[0], data: whole.data } };
    }
    case "(IA)³": {
      const [{ data }, weight] = [await tensors.read("gain"), await base()];
      const flag = tensors.module.keys.get("on_input");
      const onInput = flag === undefined
        ? data.length !== weight.shape[0]
        : (await tensors.weights.float64(flag))[0] !== 0;
      const channels = weight.shape[onInput ? 1 : 0] ?? weight.shape[0];
      if (data.length !== channels) {
        const reason = `${data.length} gains are for ${channels} ${
          onInput ? "inputs" : "outputs"
        } of ${tensors.module.path}`;
        throw refusal(tensors.weights.name, reason, [...tensors.module.keys.values()]);
      }
      return channelScaleChange(weight, { gain: data, axis: onInput ? "in" : "out" });
    }
  }
}

/**
 * The magnitudes of DoRA. PEFT's are per output. LyCORIS' are [out, 1, …] or [1, in, …], and it
 * adds f32's epsilon to the norms.
 */
async function magnitudesOf(
  tensors: ModuleTensors,
  shape: readonly number[],
): Promise<{ magnitude: Float32Array; axis: "out" | "in"; epsilon: number }> {
  const peft = await tensors.maybe("magnitude");
  if (peft) return { magnitude: peft.data, axis: "out", epsilon: 0 };
  const own = await tensors.read("dora_scale");
  return { magnitude: own.data, axis: magnitudeAxis(own.shape, shape, false)!, epsilon: 2 ** -23 };
}
