import { Sha256 } from "./sha256.ts";

/**
 * The hash that names a blob. LFS files: SHA-256 of the bytes. Others: SHA-1 of git's blob object,
 * "blob SIZE\0" followed by the bytes.
 */
export class BlobHash {
  readonly #sha256: Sha256 | undefined;
  readonly #pieces: Uint8Array<ArrayBuffer>[] = [];

  constructor(file: { readonly size: number; readonly hash: string }) {
    if (file.hash.length === 64) this.#sha256 = new Sha256();
    else this.#pieces.push(new TextEncoder().encode(`blob ${file.size}\0`));
  }

  update(bytes: Uint8Array): void {
    if (this.#sha256 !== undefined) this.#sha256.update(bytes);
    // Web Crypto has no incremental SHA-1. Buffering is fine, as files outside LFS are small.
    else this.#pieces.push(bytes.slice());
  }

  async hex(): Promise<string> {
    if (this.#sha256 !== undefined) return this.#sha256.hex();
    const whole = await new Blob(this.#pieces).arrayBuffer();
    return new Uint8Array(await crypto.subtle.digest("SHA-1", whole)).toHex();
  }
}
