import { sigmasOf } from "./noise_schedule.ts";
import { timestepOf } from "./sigma_levels.ts";

/** The timesteps of noise levels between those of a run, as float32 like diffusers. */
export function midpointTimesteps(sigmas: readonly number[], alphasCumprod: Float32Array): number[] {
  const logSigmas = sigmasOf(alphasCumprod).map(Math.log);
  return sigmas.map((sigma) => Math.fround(timestepOf(sigma, logSigmas)));
}
