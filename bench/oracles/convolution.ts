/** Sizes of a convolution. */
export interface ConvolutionSizes {
  readonly batch?: number;
  readonly inChannels: number;
  readonly outChannels: number;
  /** Height and width. */
  readonly size: readonly [number, number];
  readonly kernel: readonly [number, number];
  readonly stride?: number;
  readonly padding?: readonly [number, number, number, number];
  readonly upsample?: readonly [number, number];
}

/** What is added to a convolution's sums, and the activation between. */
export interface ConvolutionExtras {
  readonly bias?: Float32Array;
  readonly channelBias?: Float32Array;
  readonly residual?: Float32Array;
  readonly silu?: boolean;
}

/** Height and width of a convolution's result. */
export function convolutionSize(c: ConvolutionSizes): [number, number] {
  const { kernel, stride = 1, padding: [top, left, bottom, right] = [0, 0, 0, 0], size, upsample = size } = c;
  return [
    Math.floor((upsample[0] + top + bottom - kernel[0]) / stride) + 1,
    Math.floor((upsample[1] + left + right - kernel[1]) / stride) + 1,
  ];
}

/** The convolution by its definition, in float64. */
export function convolution(
  x: ArrayLike<number>,
  weight: ArrayLike<number>,
  c: ConvolutionSizes,
  extras: ConvolutionExtras = {},
): Float64Array {
  const { batch = 1, inChannels, outChannels, size: [height, width], kernel: [kh, kw], stride = 1 } = c;
  const { padding: [top, left] = [0, 0, 0, 0], upsample: [upHeight, upWidth] = c.size } = c;
  const [outHeight, outWidth] = convolutionSize(c);
  const y = new Float64Array(batch * outChannels * outHeight * outWidth);
  for (let index = 0; index < y.length; index++) {
    const column = index % outWidth, row = Math.floor(index / outWidth) % outHeight;
    const plane = Math.floor(index / outWidth / outHeight);
    const channel = plane % outChannels, picture = Math.floor(plane / outChannels);
    let sum = (extras.bias?.[channel] ?? 0) + (extras.channelBias?.[plane] ?? 0);
    for (let ky = 0; ky < kh; ky++) {
      for (let kx = 0; kx < kw; kx++) {
        const up = row * stride + ky - top, across = column * stride + kx - left;
        if (up < 0 || up >= upHeight || across < 0 || across >= upWidth) continue;
        const at = Math.floor(up * height / upHeight) * width + Math.floor(across * width / upWidth);
        for (let i = 0; i < inChannels; i++) {
          sum += x[(picture * inChannels + i) * height * width + at] *
            weight[((channel * inChannels + i) * kh + ky) * kw + kx];
        }
      }
    }
    if (extras.silu) sum /= 1 + Math.exp(-sum);
    y[index] = sum + (extras.residual?.[index] ?? 0);
  }
  return y;
}
