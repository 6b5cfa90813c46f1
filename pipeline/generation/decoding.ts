import type { Tensor } from "../../engine/tensor.ts";
import { linearCombination } from "../../kernels/shape/linear_combination.ts";
import { slice } from "../../kernels/shape/slice.ts";
import type { Autoencoder } from "../models/autoencoder.ts";

/**
 * How much the autoencoder decodes at once. By default it is all pictures of a call, whole, on
 * every device: that takes the fewest dispatches, and diffusers does the same. Both options reduce
 * the memory of decoding.
 */
export interface DecodingOptions {
  /** Decode the pictures of a call one after the other. It changes no byte of them. */
  readonly slicing: boolean;
  /**
   * Decode pictures in overlapping, blended tiles where a side is longer than the autoencoder's
   * `sample_size` (pixels). It changes the pictures slightly. "large" does it for pictures of more
   * than 1024² pixels only.
   */
  readonly tiling: boolean | "large";
}

/** Pixels of a picture beyond which `tiling: "large"` tiles. */
const largePixels = 1024 ** 2;

/** Whether pictures of latents h × w are decoded in tiles. */
export function isTiled(
  { config: { sampleSize }, spatialScale }: Pick<Autoencoder, "spatialScale"> & { config: { sampleSize: number } },
  { h, w }: { h: number; w: number },
  tiling: DecodingOptions["tiling"],
): boolean {
  if (tiling === false || (tiling === "large" && h * w * spatialScale ** 2 <= largePixels)) return false;
  return Math.max(h, w) > sampleSize / spatialScale;
}

/**
 * Decodes the UNet's latents.
 *
 * @param latents [B, 4, h, w], still scaled by `scalingFactor`
 * @returns [B, H, W, 3] in 0…1, clamped, row-major; NaN where the
 *   autoencoder's output is not finite
 */
export async function decodeLatents(
  vae: Autoencoder,
  latents: Tensor,
  { slicing, tiling }: DecodingOptions,
): Promise<{ values: Float32Array<ArrayBuffer>; shape: [number, number, number, number] }> {
  const { gpu, spatialScale } = vae;
  const [batch, , h, w] = latents.dims(4);
  const [height, width] = [h * spatialScale, w * spatialScale];
  const values = new Float32Array(batch * height * width * 3);
  const picturesAtOnce = slicing ? 1 : batch;
  for (let first = 0; first < batch; first += picturesAtOnce) {
    using part = gpu.scope(() => {
      const rows = slice(latents, 0, first, first + picturesAtOnce);
      return linearCombination([{ tensor: rows, coefficient: 1 / vae.config.scalingFactor }]);
    });
    // Shape: [picturesAtOnce, 3, H, W].
    const planes = isTiled(vae, { h, w }, tiling) ? await decodeTiled(vae, part) : await decodeWhole(vae, part);
    toPixels(
      planes,
      values.subarray(first * height * width * 3, (first + picturesAtOnce) * height * width * 3),
      picturesAtOnce,
      height * width,
    );
  }
  return { values, shape: [batch, height, width, 3] };
}

/**
 * Records every dispatch of {@linkcode decodeLatents} once, for `GpuContext.rehearse`.
 */
export function rehearseDecoding(vae: Autoencoder, latents: Tensor, { slicing, tiling }: DecodingOptions): void {
  vae.gpu.scope(() => {
    const [batch, , h, w] = latents.dims(4);
    const side = isTiled(vae, { h, w }, tiling) ? tileOf(vae).side : Infinity;
    const part = [[0, slicing ? 1 : batch], [2, Math.min(h, side)], [3, Math.min(w, side)]] as const;
    const tile = part.reduce((x, [axis, length]) => slice(x, axis, 0, length), latents);
    vae.decode(linearCombination([{ tensor: tile, coefficient: 1 / vae.config.scalingFactor }]));
  });
}

async function decodeWhole(vae: Autoencoder, latents: Tensor): Promise<Float32Array> {
  using picture = vae.decode(latents);
  return await picture.data();
}

/**
 * Converts planes [B, 3, pixels] in about -1…1 to pixels [B, pixels, 3], clamped to 0…1. What is
 * not finite becomes NaN, so that no infinity passes for white.
 */
function toPixels(planes: Float32Array, pixels: Float32Array, batch: number, count: number): void {
  for (let b = 0; b < batch; b++) {
    for (let channel = 0; channel < 3; channel++) {
      const plane = (b * 3 + channel) * count;
      for (let i = 0; i < count; i++) {
        const value = planes[plane + i];
        pixels[(b * count + i) * 3 + channel] = Number.isFinite(value)
          ? Math.min(Math.max(value / 2 + 0.5, 0), 1)
          : NaN;
      }
    }
  }
}

/** A decoded tile: planes of `height` × `width`. */
interface Tile {
  readonly data: Float32Array;
  readonly height: number;
  readonly width: number;
}

/** Side and step of tiles, in latents. Autoencoders of tiny pictures have at least one of each. */
function tileOf({ config: { sampleSize }, spatialScale }: Autoencoder): { side: number; step: number } {
  const side = Math.max(1, Math.floor(sampleSize / spatialScale));
  return { side, step: Math.max(1, Math.floor(side * 0.75)) };
}

/**
 * Tiled decoding, as diffusers' `tiled_decode`. Tiles of `sample_size` pixels overlap by a quarter,
 * in whole latents. Each tile is blended with the tiles above and to the left over the overlap, and
 * its upper left three quarters are kept. Blending is on the host, so the device holds one tile of
 * each picture at a time.
 */
async function decodeTiled(vae: Autoencoder, latents: Tensor): Promise<Float32Array> {
  const { gpu, spatialScale } = vae;
  const [batch, , h, w] = latents.dims(4);
  const { side, step } = tileOf(vae);
  const kept = step * spatialScale, blend = (side - step) * spatialScale;
  const [height, width] = [h * spatialScale, w * spatialScale];
  const planes = batch * 3;
  const result = new Float32Array(planes * height * width);
  let above: Tile[] = [];
  for (let row = 0, y = 0; y < h; row++, y += step) {
    const tiles: Tile[] = [];
    for (let column = 0, x = 0; x < w; column++, x += step) {
      using tileLatents = gpu.scope(() =>
        slice(slice(latents, 2, y, Math.min(y + side, h)), 3, x, Math.min(x + side, w))
      );
      const [, , th, tw] = tileLatents.dims(4);
      const tile = { data: await decodeWhole(vae, tileLatents), height: th * spatialScale, width: tw * spatialScale };
      if (row > 0) fadeFrom(above[column], tile, planes, blend, "down");
      if (column > 0) fadeFrom(tiles[column - 1], tile, planes, blend, "right");
      tiles.push(tile);
      place(tile, result, planes, { top: row * kept, left: column * kept, height, width, kept });
    }
    above = tiles;
  }
  return result;
}

/** Blends `tile` linearly with the last `extent` rows (or columns) of its neighbor. */
function fadeFrom(neighbor: Tile, tile: Tile, planes: number, extent: number, direction: "down" | "right"): void {
  const down = direction === "down";
  const depth = Math.min(extent, ...(down ? [neighbor.height, tile.height] : [neighbor.width, tile.width]));
  const across = down ? Math.min(neighbor.width, tile.width) : Math.min(neighbor.height, tile.height);
  for (let plane = 0; plane < planes; plane++) {
    for (let i = 0; i < depth; i++) {
      for (let j = 0; j < across; j++) {
        const [y, x] = down ? [i, j] : [j, i];
        const [ny, nx] = down ? [neighbor.height - depth + i, j] : [j, neighbor.width - depth + i];
        const at = (plane * tile.height + y) * tile.width + x;
        const other = neighbor.data[(plane * neighbor.height + ny) * neighbor.width + nx];
        tile.data[at] = other * (1 - i / depth) + tile.data[at] * (i / depth);
      }
    }
  }
}

function place(
  tile: Tile,
  result: Float32Array,
  planes: number,
  { top, left, height, width, kept }: { top: number; left: number; height: number; width: number; kept: number },
): void {
  const rows = Math.min(tile.height, kept, height - top), columns = Math.min(tile.width, kept, width - left);
  if (rows <= 0 || columns <= 0) return;
  for (let plane = 0; plane < planes; plane++) {
    for (let y = 0; y < rows; y++) {
      const from = (plane * tile.height + y) * tile.width;
      result.set(tile.data.subarray(from, from + columns), (plane * height + top + y) * width + left);
    }
  }
}
