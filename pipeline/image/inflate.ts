/** Unpacks zlib streams of strangers' files. */

/** Bytes given to the decompressor at a time: they come out as one part, up to 1032 times that. */
const pieceBytes = 4096;

/**
 * The bytes of a zlib stream (RFC 1950) in parts of a few MiB at most. Who stops reading stops the
 * work.
 *
 * @throws {TypeError} if the stream is damaged
 */
export async function* inflated(data: readonly Uint8Array[]): AsyncIterable<Uint8Array> {
  let part = 0, at = 0;
  const pieces = new ReadableStream<Uint8Array<ArrayBuffer>>({
    pull(controller) {
      // Filled from many parts: each piece takes time of its own, and parts may have a byte each.
      const piece = new Uint8Array(pieceBytes);
      let filled = 0;
      while (part < data.length && filled < pieceBytes) {
        const more = data[part].subarray(at, at + pieceBytes - filled);
        piece.set(more, filled);
        filled += more.length;
        at += more.length;
        if (at >= data[part].length) [part, at] = [part + 1, 0];
      }
      if (filled === 0) return controller.close();
      controller.enqueue(piece.subarray(0, filled));
    },
  }, { highWaterMark: 0 });
  yield* pieces.pipeThrough(new DecompressionStream("deflate"));
}
