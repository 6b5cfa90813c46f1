/**
 * Detection of Python pickles: `torch.save` files, whose loading can run arbitrary code. Blue Rose
 * never reads them.
 *
 * @module
 */

const pickleNames = /\.(bin|ckpt|pt|pth|pkl|pickle)$/i;

/**
 * Whether a file is a pickle.
 *
 * @param name The file's name or path. It decides unless `head` is given.
 * @param head The file's first 9 bytes or more. A pickle begins with "PK\x03\x04" (zip archive of
 *   `torch.save`) or with 0x80 and a protocol number from 2 to 5. A safetensors file can begin with
 *   the same bytes, but always has "{" at byte 8.
 */
export function isPickle(name: string, head?: Uint8Array): boolean {
  if (head === undefined) return pickleNames.test(name);
  if (head[8] === 0x7b) return false;
  const isZip = head[0] === 0x50 && head[1] === 0x4b && head[2] === 3 && head[3] === 4;
  return isZip || (head[0] === 0x80 && head[1] >= 2 && head[1] <= 5);
}

/** Why a pickle is not read, and what to do. */
export const pickleReason = "it is a pickle, which can run arbitrary code when it is read. " +
  "Use a .safetensors file, or convert the model in an environment that you trust: " +
  "model.save_pretrained(folder, safe_serialization=True) in Python";

/** The error text for a pickle. `action` completes "Cannot …". */
export function pickleMessage(path: string, action: "load" | "download" = "load"): string {
  return `Cannot ${action} ${path}: ${pickleReason}`;
}
