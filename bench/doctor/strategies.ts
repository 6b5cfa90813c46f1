import type { Gpu } from "../../engine/gpu.ts";
import { type Policy, policyOf } from "../../kernels/policy.ts";
import { widestOnePass } from "../../kernels/attention/sizes.ts";
import { type TileKind, tileKinds } from "../../kernels/tuning.ts";
import { attentionText, tileText } from "../report/tuning_text.ts";

/** A choice that the policy makes for a device. */
export interface Strategy {
  /** What is chosen for: "products of up to 8 rows". */
  readonly part: string;
  readonly choice: string;
  readonly reason: string;
}

const kindText: Readonly<Record<TileKind, string>> = {
  row: "products, up to 8 rows",
  skinny: "products, up to 64 rows",
  few: "products, more rows",
  many: "products, large",
};

/** Head widths of Stable Diffusion 1.x and 2.x, and of the VAE. */
const headWidths = [40, 64, 80, 160, 512];

/** The strategies that a device's policy chooses, with the reasons. */
export function strategiesOf(gpu: Gpu): Strategy[] {
  const policy = policyOf(gpu), { info } = gpu;
  const tiles = policy.products.tiles();
  const { SUBGROUP, LANES } = policy.passes.reduction;
  return [
    ...tileKinds.map((kind): Strategy => ({
      part: kindText[kind],
      choice: tileText(tiles[kind]),
      reason: Object.hasOwn(policy.tuned, kind) ? tuned : `default of ${policy.defaultsName}`,
    })),
    ...exactShapes(policy),
    {
      part: "3 × 3 convolutions",
      choice: policy.convolutions.path(usualConvolution) === "general" ? "the general kernel" : "kernels of their own",
      reason: policy.convolutions.path(usualConvolution) === "general"
        ? "its tiles suit GPUs"
        : "on software devices with subgroups, lanes share inputs and weights by broadcasts",
    },
    ...attentionStrategies(policy),
    {
      part: "sums over rows",
      choice: SUBGROUP ? `one subgroup of ${LANES}` : `${LANES} invocations through workgroup memory`,
      reason: SUBGROUP
        ? `the device's subgroups have one size, ${info.subgroupSize}`
        : "the device has no subgroups, or subgroups of several sizes",
    },
    {
      part: "f16 arithmetic",
      choice: info.arithmetic === "f16" ? "in use" : info.features.has("shader-f16") ? "off" : "none",
      reason: info.features.has("shader-f16")
        ? 'on request by --arithmetic f16 (option arithmetic: "f16")'
        : "the device does not have shader-f16",
    },
    {
      part: "the edit's solver",
      choice: info.f64 ? "f64" : "f32, refined by exact products of 9-bit slices",
      reason: info.f64 ? "the device has f64 in shaders" : "the device has no f64 in shaders",
    },
    {
      part: "compilation",
      choice: info.compilesLate ? "rehearsed and compiled ahead, on all cores" : "at a kernel's first use",
      reason: info.compilesLate
        ? "the driver compiles a kernel when it first runs"
        : "the driver compiles when a pipeline is created",
    },
  ];
}

const tuned = "tuned on this device by bluerose bench --tune";

/** How many products and convolutions have a tile of their own. */
function exactShapes({ tuned: { products = {} } }: Policy): Strategy[] {
  const convolutions = Object.keys(products).filter((key) => key.startsWith("conv ")).length;
  const count = Object.keys(products).length;
  if (count === 0) return [];
  return [{
    part: "single shapes",
    choice: `tiles of their own for ${count - convolutions} products and ${convolutions} convolutions`,
    reason: tuned,
  }];
}

/** A convolution of the UNet's first level. */
const usualConvolution = {
  kernelHeight: 3,
  kernelWidth: 3,
  inChannels: 320,
  outChannels: 320,
  stride: 1,
  upsample: "none",
  isPlain: false,
  padding: [1, 1, 1, 1],
  width: 64,
  outWidth: 64,
  pixels: 2 * 64 ** 2,
  dtype: "f32",
} as const;

const attentionSizes = (dim: number) =>
  ({ batch: 2, heads: 8, t: 1024, s: 1024, dim, causal: false, scale: 1 }) as const;

/** One strategy for all head widths that get the same form. */
function attentionStrategies(policy: Policy): Strategy[] {
  const tunedWidths = Object.keys(policy.tuned.attention ?? {}).map(Number);
  const widths = [...new Set([...headWidths, ...tunedWidths])].sort((a, b) => a - b);
  const forms = widths.map((width) => ({
    width,
    choice: attentionText(policy.attention.formFor(attentionSizes(width))),
    reason: attentionReason(policy, width),
  }));
  return [...Map.groupBy(forms, ({ choice, reason }) => `${choice} ${reason}`).values()].map((same) => ({
    part: `attention, heads of ${same.map(({ width }) => width).join(", ")}`,
    choice: same[0].choice,
    reason: same[0].reason,
  }));
}

function attentionReason(policy: Policy, width: number): string {
  if (Object.hasOwn(policy.tuned.attention ?? {}, `${width}`)) return tuned;
  return width > widestOnePass
    ? policy.isSoftware
      ? `heads wider than ${widestOnePass} take long to compile in one pass`
      : `heads wider than ${widestOnePass} do not fit the registers`
    : policy.attention.formFor(attentionSizes(width)).path === "staged"
    ? "no form with one pass fits the device's workgroup memory"
    : "one pass over the keys: scores are not stored";
}
