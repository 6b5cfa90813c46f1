/**
 * Incremental SHA-256 (FIPS 180-4), the hash by which the hub names large files. Web Crypto hashes
 * only whole buffers, and a model file does not fit into one.
 */

/**
 * The constants of the standard: the first 32 bits of the fractional parts of the cube roots of the
 * first 64 primes, and of the square roots of the first 8.
 */
const [roundConstants, initialState] = primeRoots();

/** A SHA-256 computed over successive `update()` calls. */
export class Sha256 {
  readonly #state: Int32Array = Int32Array.from(initialState);
  readonly #schedule: Int32Array = new Int32Array(64);
  readonly #block: Uint8Array = new Uint8Array(64);
  #filled = 0;
  #totalBytes = 0;

  /** Appends bytes to the message. */
  update(bytes: Uint8Array): this {
    this.#totalBytes += bytes.length;
    let at = 0;
    if (this.#filled > 0) {
      at = Math.min(64 - this.#filled, bytes.length);
      this.#block.set(bytes.subarray(0, at), this.#filled);
      this.#filled += at;
      if (this.#filled < 64) return this;
      this.#compress(this.#block, 0);
      this.#filled = 0;
    }
    for (; at + 64 <= bytes.length; at += 64) this.#compress(bytes, at);
    this.#block.set(bytes.subarray(at));
    this.#filled = bytes.length - at;
    return this;
  }

  /** The digest in hexadecimal. Call it once, after the last `update()`. */
  hex(): string {
    const bits = BigInt(this.#totalBytes) * 8n;
    const padding = new Uint8Array((this.#filled < 56 ? 64 : 128) - this.#filled);
    padding[0] = 0x80;
    new DataView(padding.buffer).setBigUint64(padding.length - 8, bits);
    this.update(padding);
    return Array.from(this.#state, (word) => (word >>> 0).toString(16).padStart(8, "0")).join("");
  }

  #compress(bytes: Uint8Array, start: number): void {
    const w = this.#schedule;
    for (let i = 0, at = start; i < 16; i++, at += 4) {
      w[i] = bytes[at] << 24 | bytes[at + 1] << 16 | bytes[at + 2] << 8 | bytes[at + 3];
    }
    for (let i = 16; i < 64; i++) {
      const x = w[i - 15];
      const y = w[i - 2];
      const sigma0 = (x >>> 7 | x << 25) ^ (x >>> 18 | x << 14) ^ x >>> 3;
      const sigma1 = (y >>> 17 | y << 15) ^ (y >>> 19 | y << 13) ^ y >>> 10;
      w[i] = w[i - 16] + sigma0 + w[i - 7] + sigma1 | 0;
    }
    const state = this.#state;
    let a = state[0], b = state[1], c = state[2], d = state[3], e = state[4], f = state[5], g = state[6], h = state[7];
    for (let i = 0; i < 64; i++) {
      const sum1 = (e >>> 6 | e << 26) ^ (e >>> 11 | e << 21) ^ (e >>> 25 | e << 7);
      const choice = e & f ^ ~e & g;
      const t1 = h + sum1 + choice + roundConstants[i] + w[i] | 0;
      const sum0 = (a >>> 2 | a << 30) ^ (a >>> 13 | a << 19) ^ (a >>> 22 | a << 10);
      const majority = a & b ^ a & c ^ b & c;
      h = g;
      g = f;
      f = e;
      e = d + t1 | 0;
      d = c;
      c = b;
      b = a;
      a = t1 + sum0 + majority | 0;
    }
    state[0] += a;
    state[1] += b;
    state[2] += c;
    state[3] += d;
    state[4] += e;
    state[5] += f;
    state[6] += g;
    state[7] += h;
  }
}

function primeRoots(): [Int32Array, Int32Array] {
  const primes: number[] = [];
  for (let n = 2; primes.length < 64; n++) if (primes.every((prime) => n % prime !== 0)) primes.push(n);
  // Exact in integers: floor(2^32 · p^(1/n)) is the integer n-th root of p · 2^(32 n).
  const bits = (prime: number, power: bigint): number => {
    const target = BigInt(prime) << 32n * power;
    let root = 0n;
    for (let bit = 1n << 35n; bit > 0n; bit >>= 1n) if ((root | bit) ** power <= target) root |= bit;
    return Number(root & 0xffffffffn) | 0;
  };
  return [Int32Array.from(primes, (p) => bits(p, 3n)), Int32Array.from(primes.slice(0, 8), (p) => bits(p, 2n))];
}
