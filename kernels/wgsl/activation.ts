/**
 * Functions that Stable Diffusion's networks apply to each element:
 *
 * - `silu`: x σ(x), in the UNet and VAE
 * - `gelu`: x Φ(x), exact (erf), in OpenCLIP's text encoder and GEGLU
 * - `quick_gelu`: x σ(1.702 x), in OpenAI's CLIP
 * - `relu`: max(x, 0), in the tiny autoencoder
 * - `soft_clamp_3`: 3 tanh(x / 3), on the tiny autoencoder's latents
 * - `to_unit`: (x + 1) / 2, and `to_signed`: 2 x − 1, between its pictures in 0…1 and ours in −1…1
 */
export type Activation = "silu" | "gelu" | "quick_gelu" | "relu" | "soft_clamp_3" | "to_unit" | "to_signed";

/**
 * erfc(z) for z ≥ 0: 1 − the Maclaurin series of erf below 0.8, and the Chebyshev fit of Numerical
 * Recipes (relative error below 1.2e-7) above.
 */
const erfcWgsl = /* wgsl */ `
fn erfc4(z: vec4f) -> vec4f { // z >= 0
  let t = 1.0 / (1.0 + 0.5 * z);
  let poly = -1.26551223 + t * (1.00002368 + t * (0.37409196 + t * (0.09678418 + t * (-0.18628806
    + t * (0.27886807 + t * (-1.13520398 + t * (1.48851587 + t * (-0.82215223 + t * 0.17087277))))))));
  let far = t * exp(-z * z + poly);
  let y = z * z; // 2/sqrt(pi) sum (-1)^n z^(2n+1) / (n! (2n+1))
  let near = 1.0 - z * 1.1283791671 * (1.0 + y * (-0.3333333333 + y * (0.1 + y * (-0.0238095238 + y * (0.0046296296
    + y * (-0.00075757576 + y * (0.00010683761 + y * (-0.000013227513 + y * 0.0000014589169))))))));
  return select(far, near, z < vec4f(0.8));
}
`;

/** WGSL function bodies, by activation. */
const bodies: Readonly<Record<"none" | Activation, string>> = {
  none: "return x;",
  silu: "return x / (1.0 + exp(-x));",
  // erfc avoids the cancellation of 1 + erf for large negative x.
  gelu: "let tail = 0.5 * erfc4(abs(x) * 0.7071067811865476); return x * select(tail, 1.0 - tail, x > vec4f());",
  quick_gelu: "return x / (1.0 + exp(-1.702 * x));",
  relu: "return max(x, vec4f());",
  // tanh is 1 in f32 from 10 on; some drivers overflow far beyond.
  soft_clamp_3: "return 3.0 * tanh(clamp(x / 3.0, vec4f(-10.0), vec4f(10.0)));",
  to_unit: "return 0.5 * x + 0.5;",
  to_signed: "return 2.0 * x - 1.0;",
};

/** The values of the constant ACTIVATION, which kernels with a fused activation declare. */
export const activationValues = Object.keys(bodies) as readonly ("none" | Activation)[];

/**
 * WGSL `activate(x: vec4f) -> vec4f` for the value of the constant ACTIVATION (see {@linkcode
 * activationValues}). The text holds that activation only. A switch over all of them would be
 * compiled at each place where the function is inlined.
 */
export function activationWgsl({ ACTIVATION }: { readonly ACTIVATION: "none" | Activation }): string {
  if (!Object.hasOwn(bodies, ACTIVATION)) {
    const names = activationValues.filter((name) => name !== "none");
    throw new RangeError(`Cannot apply the activation ${JSON.stringify(ACTIVATION)} as it must be ${names.join(", ")}`);
  }
  return `${ACTIVATION === "gelu" ? erfcWgsl : ""}fn activate(x: vec4f) -> vec4f { ${bodies[ACTIVATION]} }\n`;
}
