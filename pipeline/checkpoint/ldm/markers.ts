/**
 * What a single file says about its UNet's training apart from the weights: marker tensors and
 * metadata of trainers.
 *
 * @module
 */

import type { Weights } from "../safetensors/weights.ts";
import type { PredictionType } from "./config.ts";

/** Names of marker tensors, whose presence alone is the information (ComfyUI, A1111). */
export const markerTensors = { vPrediction: "v_pred", zeroTerminalSnr: "ztsnr" } as const;

/** The training settings that a file's markers give. */
export interface Markers {
  /** `null` if nothing says it. */
  readonly predictionType: PredictionType | null;
  /** Whether the noise schedule ends at pure noise (2305.08891). */
  readonly zeroTerminalSnr: boolean;
}

/**
 * Reads a file's markers: the tensors `v_pred` and `ztsnr`; `modelspec.prediction_type` of
 * Stability's model specification; and kohya's `ss_v_parameterization` and `ss_zero_terminal_snr`,
 * with or without `ss_`.
 */
export function readMarkers({ tensors, metadata }: Weights): Markers {
  const entry = (...names: string[]): string | undefined => {
    const key = Object.keys(metadata).find((key) =>
      names.includes(key.replace(/^(ss_|modelspec\.)/, "").toLowerCase())
    );
    return key === undefined ? undefined : metadata[key].trim().toLowerCase();
  };
  const isTrue = (text: string | undefined): boolean => text === "true" || text === "1" || text === "yes";
  const stated = entry("prediction_type", "predict_type", "parameterization");
  const isV = tensors.has(markerTensors.vPrediction) || isTrue(entry("v_parameterization", "v_pred", "v_prediction")) ||
    ["v", "v_prediction", "v-prediction", "vpred", "v_pred"].includes(stated ?? "");
  const isEpsilon = !isV && ["epsilon", "eps", "e"].includes(stated ?? "");
  return {
    predictionType: isV ? "v_prediction" : isEpsilon ? "epsilon" : null,
    zeroTerminalSnr: tensors.has(markerTensors.zeroTerminalSnr) ||
      isTrue(entry("zero_terminal_snr", "ztsnr", "zsnr", "rescale_betas_zero_snr")),
  };
}
