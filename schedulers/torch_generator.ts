import { SchedulerError } from "./error.ts";

const { fround } = Math;
const STATE_WORDS = 624;
const SHIFT_WORDS = 397;
/** The most values of one draw: 8 GiB. */
const mostValues = 2 ** 31;
/** torch computes normals in blocks of eight pairs. */
const BLOCK = 16;
const TWO_PI = 2 * Math.PI;

/**
 * `torch.Generator("cpu")`: MT19937, with the normal draws of `torch.randn`. A seed gives the same
 * latents as in PyTorch, to 4·10⁻⁶: torch itself differs by that much between machines.
 *
 * ```ts
 * // torch.randn(1, 4, 64, 64, generator=torch.Generator("cpu").manual_seed(7))
 * const latents = new TorchGenerator(7).randn([1, 4, 64, 64]);
 * ```
 */
export class TorchGenerator {
  /** The seed as given. Only its low 32 bits are used. */
  readonly seed: number | bigint;
  readonly #state = new Uint32Array(STATE_WORDS);
  #position = STATE_WORDS;
  /** The second value of a pair, kept for the next draw of fewer than 16 values. */
  #spare: number | undefined;

  /**
   * A generator at the beginning of its seed's sequence.
   *
   * @param seed An integer; a random one unless given.
   * @throws {SchedulerError} where the seed is not an integer that a number holds exactly.
   */
  constructor(seed: number | bigint = crypto.getRandomValues(new Uint32Array(1))[0]) {
    if (typeof seed !== "bigint" && !Number.isSafeInteger(seed)) {
      throw new SchedulerError(
        `Cannot seed a generator as the seed must be an integer (a bigint beyond 2⁵³): ${String(seed)}`,
        {
          seed,
        },
      );
    }
    this.seed = seed;
    const state = this.#state;
    state[0] = Number(BigInt.asUintN(32, BigInt(seed)));
    for (let j = 1; j < STATE_WORDS; j++) {
      state[j] = Math.imul(1812433253, state[j - 1] ^ (state[j - 1] >>> 30)) + j;
    }
  }

  /**
   * Draws of the standard normal distribution, in `shape`'s row-major order.
   *
   * As in torch, the algorithm depends on the count. 16 values or more use Box-Muller in float32 on
   * blocks of 16. Fewer values use float64, one by one, and keep the second value of a pair for the
   * next such draw.
   *
   * @throws {SchedulerError} where a dimension is not a whole number, or there are more than 2³¹
   *   values.
   */
  randn(shape: readonly number[]): Float32Array {
    const shapeText = Array.isArray(shape) ? `[${shape.join(", ")}]` : typeof shape;
    if (!(Array.isArray(shape) && shape.every((size) => Number.isSafeInteger(size) && size >= 0))) {
      throw new SchedulerError(`Cannot draw noise as each dimension must be a whole number: ${shapeText}`, {
        shape,
      });
    }
    const count = shape.reduce((product, size) => product * size, 1);
    if (!(count <= mostValues)) {
      throw new SchedulerError(
        `Cannot draw ${count} values of noise at once: ${mostValues} are the most; draw them in parts`,
        { shape },
      );
    }
    return count < BLOCK ? this.#few(count) : this.#many(count);
  }

  /** A generator in the same state, which draws on independently. */
  clone(): TorchGenerator {
    const copy = new TorchGenerator(this.seed);
    copy.#state.set(this.#state);
    copy.#position = this.#position;
    copy.#spare = this.#spare;
    return copy;
  }

  /**
   * Advances the sequence as `randn` of `count` values does, without computing them.
   *
   * @throws {SchedulerError} where the count is not a whole number up to 2³¹
   */
  skip(count: number): void {
    if (!(Number.isSafeInteger(count) && count >= 0 && count <= mostValues)) {
      throw new SchedulerError(`Cannot skip ${String(count)} values: it must be a whole number up to ${mostValues}`, {
        count,
      });
    }
    if (count < BLOCK) this.#few(count);
    else for (let i = count % BLOCK === 0 ? 0 : -BLOCK; i < count; i++) this.#word();
  }

  #many(count: number): Float32Array {
    const values = Float32Array.from({ length: count }, () => this.#uniform24());
    for (let start = 0; start + BLOCK <= count; start += BLOCK) toNormals(values.subarray(start, start + BLOCK));
    if (count % BLOCK !== 0) {
      const tail = values.subarray(count - BLOCK);
      for (let i = 0; i < BLOCK; i++) tail[i] = this.#uniform24();
      toNormals(tail);
    }
    return values;
  }

  #few(count: number): Float32Array {
    const values = new Float32Array(count);
    for (let i = 0; i < count; i++) values[i] = this.#normal();
    return values;
  }

  #normal(): number {
    if (this.#spare !== undefined) {
      const spare = this.#spare;
      this.#spare = undefined;
      return spare;
    }
    const angle = TWO_PI * this.#uniform53();
    const radius = Math.sqrt(-2 * Math.log1p(-this.#uniform53()));
    this.#spare = radius * Math.sin(angle);
    return radius * Math.cos(angle);
  }

  #uniform24(): number {
    return (this.#word() & 0xffffff) / 2 ** 24;
  }

  #uniform53(): number {
    const high = this.#word() & 0x1fffff;
    return (high * 2 ** 32 + this.#word()) / 2 ** 53;
  }

  #word(): number {
    if (this.#position === STATE_WORDS) this.#refill();
    let word = this.#state[this.#position++];
    word ^= word >>> 11;
    word ^= (word << 7) & 0x9d2c5680;
    word ^= (word << 15) & 0xefc60000;
    return (word ^ (word >>> 18)) >>> 0;
  }

  #refill(): void {
    const state = this.#state;
    for (let k = 0; k < STATE_WORDS; k++) {
      const joined = (state[k] & 0x80000000) | (state[(k + 1) % STATE_WORDS] & 0x7fffffff);
      state[k] = state[(k + SHIFT_WORDS) % STATE_WORDS] ^ (joined >>> 1) ^ (joined & 1 ? 0x9908b0df : 0);
    }
    this.#position = 0;
  }
}

/** Box-Muller in float32: element j of a block gives the radius, element j + 8 the angle. */
function toNormals(block: Float32Array): void {
  for (let j = 0; j < BLOCK / 2; j++) {
    const radius = fround(Math.sqrt(fround(-2 * fround(Math.log(1 - block[j])))));
    const angle = fround(fround(TWO_PI) * block[j + 8]);
    block[j] = radius * fround(Math.cos(angle));
    block[j + 8] = radius * fround(Math.sin(angle));
  }
}
