/** Paints pictures on 2D canvases, at the device's own pixels. @module */

import type { Pixels } from "../painter.ts";

/** The picture in its own size, as a source to paint from. */
export function imageOf({ width, height, data }: Pixels): HTMLCanvasElement {
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = height;
  canvas.getContext("2d")!.putImageData(new ImageData(data, width, height), 0, 0);
  return canvas;
}

/** Paints a picture over the whole canvas, smoothly enlarged to the pixels that it covers. */
export function paint(canvas: HTMLCanvasElement, pixels: Pixels): void {
  const scale = globalThis.devicePixelRatio || 1;
  const side = (css: number, own: number) => Math.min(4096, Math.max(own, Math.round(css * scale)));
  const width = side(canvas.clientWidth, pixels.width);
  const height = side(canvas.clientHeight, pixels.height);
  if (canvas.width !== width) canvas.width = width;
  if (canvas.height !== height) canvas.height = height;
  const context = canvas.getContext("2d")!;
  context.imageSmoothingEnabled = true;
  context.imageSmoothingQuality = "high";
  context.drawImage(imageOf(pixels), 0, 0, width, height);
}

/** A canvas as a PNG file. */
export function pngOf(canvas: HTMLCanvasElement): Promise<Blob> {
  return new Promise((resolve, reject) =>
    canvas.toBlob((blob) => blob ? resolve(blob) : reject(new Error("The browser could not make a PNG")), "image/png")
  );
}
