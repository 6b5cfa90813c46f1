/**
 * Converts models in diffusers' layout to one file in the LDM layout, which A1111, ComfyUI and
 * stable-diffusion.cpp load.
 */

import { CheckpointError } from "../../errors.ts";
import { openClipTable, unetTable, vaeTable } from "./key_tables.ts";
import { type KeyTable, ldmPrefixes, openClipProjection } from "./keys.ts";
import { markerTensors } from "./markers.ts";
import type { ConfigJson } from "../source/origin.ts";
import type { TensorEntry } from "../safetensors/writer.ts";
import { stackedEntry, transposedEntry } from "../safetensors/tensor_stream.ts";

/** One part: its configuration, and its tensors under diffusers' keys. */
export interface PartEntries {
  readonly config: ConfigJson;
  readonly entries: readonly TensorEntry[];
}

/** The parts of a single file. */
export interface SingleFileParts {
  readonly unet: PartEntries;
  readonly vae: PartEntries;
  readonly textEncoder: PartEntries;
  /** The second text encoder of SDXL. */
  readonly textEncoder2?: PartEntries;
  /** `prediction_type` of the scheduler. */
  readonly predictionType: string;
  /** `rescale_betas_zero_snr` of the scheduler. */
  readonly zeroTerminalSnr?: boolean;
}

/**
 * The tensors of the parts under their names in the LDM layout.
 *
 * A 2.x file gets a `global_step`, from which diffusers infers what the UNet predicts. Its text
 * encoder lacks OpenCLIP's last layer, as diffusers folders do; Stable Diffusion does not use it.
 * Other deviations from the family's default are marked by empty tensors: `v_pred` and `ztsnr`.
 *
 * @throws {CheckpointError} for a tensor that the layout cannot represent
 */
export function singleFileEntries(parts: SingleFileParts): TensorEntry[] {
  const { textEncoder, textEncoder2 } = parts;
  const isOpenClip = textEncoder2 === undefined && textEncoder.config.hidden_act === "gelu";
  const text = textEncoder2
    ? [...clipEntries(textEncoder, ldmPrefixes.xlClip), ...openClipEntries(textEncoder2, ldmPrefixes.xlOpenClip)]
    : isOpenClip
    ? openClipEntries(textEncoder, ldmPrefixes.openClip)
    : clipEntries(textEncoder, ldmPrefixes.clip);
  return [
    ...unetEntries(parts.unet),
    ...vaeEntries(parts.vae),
    ...text,
    ...(isOpenClip ? [globalStep(parts)] : []),
    ...(!isOpenClip && parts.predictionType === "v_prediction" ? [marker(markerTensors.vPrediction)] : []),
    ...(parts.zeroTerminalSnr ? [marker(markerTensors.zeroTerminalSnr)] : []),
  ];
}

function marker(name: string): TensorEntry {
  return { name, dtype: "F32", shape: [0], chunks: () => [] };
}

function unetEntries({ config, entries }: PartEntries): TensorEntry[] {
  const table = unetTable(config);
  return entries.map((entry) => ({ ...entry, name: ldmPrefixes.unet + placed(entry.name, table) }));
}

/** Names of attention projections in folders saved before diffusers 0.17. */
const oldProjections: Readonly<Record<string, string>> = {
  query: "to_q",
  key: "to_k",
  value: "to_v",
  proj_attn: "to_out.0",
};

function vaeEntries({ config, entries }: PartEntries): TensorEntry[] {
  const table = vaeTable(config);
  return entries.map((entry) => {
    const key = entry.name.replace(
      /(?<=\.attentions\.0\.)(query|key|value|proj_attn)(?=\.)/,
      (name) => oldProjections[name],
    );
    // Attention projections are linear layers in diffusers and 1×1 convolutions in LDM.
    const isProjection = /\.attentions\..*\.weight$/.test(key) && entry.shape.length === 2;
    const shape = isProjection ? [...entry.shape, 1, 1] : entry.shape;
    return { ...entry, shape, name: ldmPrefixes.vae + placed(key, table) };
  });
}

function clipEntries({ entries }: PartEntries, prefix: string): TensorEntry[] {
  return entries.map((entry) => ({ ...entry, name: prefix + entry.name }));
}

/** Only SDXL's encoder has a projection that counts. */
function openClipEntries({ config, entries }: PartEntries, prefix: string): TensorEntry[] {
  const unused = prefix === ldmPrefixes.xlOpenClip ? /position_ids$/ : /position_ids$|^text_projection/;
  const { table, fused } = openClipTable(config);
  const thirds = new Set(fused.flatMap(({ diffusers }) => diffusers));
  const byName = new Map(entries.map((entry) => [entry.name, entry]));
  const whole = fused.map(({ ldm, diffusers }) =>
    stackedEntry(diffusers.map((name) => byName.get(name)!), prefix + ldm)
  );
  const others = entries
    .filter(({ name }) => !thirds.has(name) && !unused.test(name))
    .map((entry) => {
      const name = placed(entry.name, table);
      return { ...(name === openClipProjection ? transposedEntry(entry) : entry), name: prefix + name };
    });
  return [...others, ...whole];
}

/**
 * The training steps of the published 2.x models: 875000 for 2.0 base, 110000 for 2.1 768-v (which
 * needs attention in f32), 140000 for 2.0 768-v.
 */
function globalStep({ predictionType, unet }: SingleFileParts): TensorEntry {
  const step = predictionType === "epsilon" ? 875_000 : unet.config.upcast_attention === true ? 110_000 : 140_000;
  return {
    name: "global_step",
    dtype: "I64",
    shape: [],
    chunks: () => [new Uint8Array(BigInt64Array.of(BigInt(step)).buffer)],
  };
}

function placed(key: string, table: KeyTable): string {
  const name = table.toLdm(key);
  if (name !== undefined) return name;
  throw new CheckpointError(`Cannot save a single file as the LDM layout has no name for the tensor ${key}`, {
    source: key,
  });
}
