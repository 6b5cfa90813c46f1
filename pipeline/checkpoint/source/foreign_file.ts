/**
 * Recognizes files that were saved under a name of weights and are something else: an interrupted
 * or misdirected download, or another format.
 *
 * @module
 */

import type { ByteSource } from "./byte_source.ts";
import { isPickle, pickleReason } from "./pickle.ts";

/** Bytes at the beginning of a file that decide what it is. */
const headBytes = 1024;

interface Format {
  /** The first bytes, as Latin-1 text. */
  readonly magic: string;
  /** Where they stand. Default: 0. */
  readonly at?: number;
  readonly what: string;
}

/** What a model can be converted with, or loaded from, when its format is not read. */
const useSafetensors = "use the model's .safetensors files";
const unpack = "unpack it, and load what is in it";

const formats: readonly Format[] = [
  { magic: "PK\x03\x04", what: `a zip archive; ${unpack}` },
  { magic: "PK\x05\x06", what: "an empty zip archive" },
  {
    magic: "GGUF",
    what: `a GGUF file of llama.cpp or stable-diffusion.cpp, with quantized weights; ${useSafetensors}`,
  },
  ...["tjgg", "fmgg", "lmgg", "GGML"].map((magic) => ({ magic, what: `a GGML file; ${useSafetensors}` })),
  { magic: "\x89PNG\r\n", what: "a PNG picture" },
  { magic: "\xff\xd8\xff", what: "a JPEG picture" },
  { magic: "GIF8", what: "a GIF picture" },
  { magic: "WEBP", at: 8, what: "a WebP picture" },
  { magic: "ftyp", at: 4, what: "a video or an AVIF picture" },
  { magic: "\x1f\x8b", what: `a gzip archive; ${unpack}` },
  { magic: "BZh", what: `a bzip2 archive; ${unpack}` },
  { magic: "\xfd7zXZ\0", what: `an xz archive; ${unpack}` },
  { magic: "\x28\xb5\x2f\xfd", what: `a Zstandard archive; ${unpack}` },
  { magic: "7z\xbc\xaf\x27\x1c", what: `a 7-Zip archive; ${unpack}` },
  { magic: "Rar!", what: `a RAR archive; ${unpack}` },
  { magic: "ustar", at: 257, what: `a tar archive; ${unpack}` },
  { magic: "\x89HDF\r\n", what: `an HDF5 file of Keras; ${useSafetensors}` },
  { magic: "\x93NUMPY", what: `a NumPy array; ${useSafetensors}` },
  { magic: "TFL3", at: 4, what: `a TensorFlow Lite model; ${useSafetensors}` },
  { magic: "%PDF", what: "a PDF document" },
  { magic: "\x7fELF", what: "a program" },
  { magic: "MZ\x90", what: "a program" },
];

/**
 * The reason why a file is not safetensors, in the form "it is a web page, …", or `undefined` for a
 * file that begins as safetensors does, or is not recognized.
 *
 * @throws What the source throws
 */
export async function foreignReason(source: ByteSource): Promise<string | undefined> {
  const { name, size } = source;
  if (size === 0) return "it is empty: download it again";
  const head = await source.read(0, Math.min(headBytes, size));
  if (head[8] === 0x7b && headerFits(head)) return undefined;
  if (size > 8 && head.every((byte) => byte === 0)) {
    return `it begins with ${head.length} zero bytes, of ${size} in all: the download was interrupted, or the disk is damaged. Download it again`;
  }
  const latin1 = String.fromCharCode(...head);
  if (isPickle(name, head) && !isOtherZip(latin1)) return pickleReason;
  const format = formats.find(({ magic, at = 0 }) => latin1.startsWith(magic, at));
  if (format !== undefined) return `it is ${format.what}`;
  const text = textOf(head, size);
  return text === undefined ? undefined : textReason(text, size);
}

/** Whether the first 8 bytes can be the length of a safetensors header: below 2³². */
function headerFits(head: Uint8Array<ArrayBuffer>): boolean {
  return new DataView(head.buffer, head.byteOffset).getUint32(4, true) === 0;
}

/**
 * Whether a zip archive is none of `torch.save`, whose files are named NAME/data.pkl, NAME/version
 * and the like: by the name of its first file, where it has one.
 */
function isOtherZip(head: string): boolean {
  if (!head.startsWith("PK\x03\x04")) return false;
  const length = head.charCodeAt(26) + 256 * head.charCodeAt(27);
  const name = length > 0 ? head.slice(30, 30 + length) : "";
  return name !== "" && !/\/(data\.pkl|version|byteorder|\.format_version|\.storage_alignment|data\/\d+)$/.test(name);
}

/** The beginning of a file as text; `undefined` if it is none. */
function textOf(head: Uint8Array, size: number): string | undefined {
  try {
    // a character can be cut where the file goes on
    const text = new TextDecoder("utf-8", { fatal: true }).decode(head, { stream: size > head.length });
    // deno-lint-ignore no-control-regex
    return /[\x00-\x08\x0e-\x1a]/.test(text) ? undefined : text.trim();
  } catch {
    return undefined;
  }
}

/** The reason why a file that is to be JSON is not, where it is something well known. */
export function foreignText(text: string): string | undefined {
  const reason = textReason(text.slice(0, headBytes).trim(), text.length);
  return /Git LFS|web page|XML/.test(reason) ? reason : undefined;
}

function textReason(text: string, size: number): string {
  const pointer = /^version https:\/\/(git-lfs|hawser)[^]*?^size (\d+)$/m.exec(text);
  if (pointer !== null) {
    return `it is a Git LFS pointer of ${size} bytes, which stands for a file of ${
      pointer[2]
    } bytes: run "git lfs pull" in its repository, or download the file itself`;
  }
  if (/^(<!--[^]*?-->\s*)?<(!doctype html|html|head|body|title|meta|script)\b/i.test(text)) {
    const title = /<title[^>]*>\s*([^<]*?)\s*<\/title>/i.exec(text)?.[1];
    return `it is a web page${
      title ? ` (${JSON.stringify(title)})` : ""
    }: the download led to a page about the file or to a login. Download the file itself`;
  }
  if (/^<(\?xml|\w)/.test(text)) return "it is XML, perhaps the error message of a server: download it again";
  const start = JSON.stringify(text.length > 80 ? `${text.slice(0, 80)}…` : text);
  if (/^(\{\s*("|\})|\[\s*["{[\]\d-])/.test(text)) {
    const isIndex = /"weight_map"|"total_size"/.test(text);
    return isIndex
      ? "it is the index of a model in several files: load the folder that holds it"
      : `it is JSON and no weights: it begins with ${start}`;
  }
  return `it is text and no weights: it begins with ${start}`;
}
