import { Tensor } from "../../engine/tensor.ts";
import { activate, type Activation } from "../../kernels/activation.ts";
import { assertClose, gpuTest, randomArray } from "../gpu.ts";

/** erf by its integral's series (Maclaurin below 3, else 1 - the tail's continued fraction), in f64. */
function erf(x: number): number {
  const z = Math.abs(x);
  if (z < 3) {
    let term = z, sum = z;
    for (let n = 1; n < 80; n++) sum += (term *= -z * z / n) / (2 * n + 1);
    return Math.sign(x) * sum * 2 / Math.sqrt(Math.PI);
  }
  let fraction = 0;
  for (let n = 60; n > 0; n--) fraction = n / 2 / (z + fraction);
  return Math.sign(x) * (1 - Math.exp(-z * z) / Math.sqrt(Math.PI) / (z + fraction));
}

const oracle: Record<Activation, (x: number) => number> = {
  silu: (x) => x / (1 + Math.exp(-x)),
  gelu: (x) => 0.5 * x * (1 + erf(x / Math.SQRT2)),
  quick_gelu: (x) => x / (1 + Math.exp(-1.702 * x)),
};

// exp(a) in f32 is off by |a| roundings of its argument; here |a| reaches 8²/2.
const tolerance = 32 * 2 ** -24;

for (const kind of Object.keys(oracle) as Activation[]) {
  gpuTest(
    `activate("${kind}") equals its float64 definition on sizes 0, 1, 63, 257 and arguments to 8`,
    async (gpu) => {
      for (const size of [0, 1, 63, 257]) {
        const data = randomArray(size, size).map((x) => x * 8);
        using x = Tensor.from(gpu, data, [size]);
        using y = activate(x, kind);
        assertClose(await y.data(), Float64Array.from(data, oracle[kind]), tolerance, `size ${size}`);
      }
    },
  );
}
