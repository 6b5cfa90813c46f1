import type { DType } from "../dtype.ts";
import { DTypeError } from "../errors.ts";

/** WGSL that declares how one binding is accessed. */
export interface Accessors {
  /** Type of the storage variable. */
  readonly type: string;
  /** The functions `NAME_at`, `NAME_half_at`, `NAME_element_at` and `NAME_put`. */
  readonly accessors: string;
}

/** Options of {@linkcode accessorsOf}. */
export interface AccessOptions {
  /** Elements per access. */
  readonly width: 1 | 4 | 8;
  readonly access: "read" | "write";
  /** Whether to access pairs of 32-bit words as one u64; see {@linkcode GpuInfo.longWords}. */
  readonly longWords: boolean;
  /** Whether the kernel may use WGSL's f16, and so gets `NAME_half_at`. Default: false. */
  readonly hasF16?: boolean;
}

/** One access: its storage type, and WGSL expressions. */
interface Form {
  /** Type of the storage variable's elements. */
  readonly type: string;
  /** Statements that return the elements of `w`, an access. */
  readonly read: string;
  /** The access that holds `v`. */
  readonly write: string;
  /** Element `i` of the binding. */
  readonly one: string;
}

/** The four 32-bit words of two u64, in order, and back. */
const split4 = (w: string) => `vec4u(vec2u(${w}), vec2u(${w} >> vec2u(32u))).xzyw`;
const join4 = (v: string) => `(vec2<u64>(${v}.xz) | (vec2<u64>(${v}.yw) << vec2u(32u)))`;

const unpack4 = (w: string) => `vec4f(unpack2x16float(${w}.x), unpack2x16float(${w}.y))`;
const pack4 = (v: string) => `pack2x16float(${v}.xy), pack2x16float(${v}.zw)`;

/** Word number `word` of the binding, of which `count` form an access of u64. */
const longWord = (name: string, count: number, word: string) => {
  const pair = count === 2 ? `${name}[${word} / 2u]` : `${name}[${word} / ${count}u][${word} / 2u % ${count / 2}u]`;
  return `u32(${pair} >> (${word} % 2u * 32u))`;
};

/** The forms of f32 accesses, by width. */
function f32Form(name: string, width: 4 | 8, longWords: boolean): Form {
  if (width === 4) {
    return longWords
      ? {
        type: "vec2<u64>",
        read: `return bitcast<vec4f>(${split4("w")});`,
        write: join4("bitcast<vec4u>(v)"),
        one: `bitcast<f32>(${longWord(name, 4, "i")})`,
      }
      : { type: "vec4f", read: "return w;", write: "v", one: `${name}[i / 4u][i % 4u]` };
  }
  return longWords
    ? {
      type: "vec4<u64>",
      read: `return mat2x4f(bitcast<vec4f>(${split4("w.xy")}), bitcast<vec4f>(${split4("w.zw")}));`,
      write: `vec4<u64>(${join4("bitcast<vec4u>(v[0])")}, ${join4("bitcast<vec4u>(v[1])")})`,
      one: `bitcast<f32>(${longWord(name, 8, "i")})`,
    }
    : { type: "mat2x4f", read: "return w;", write: "v", one: `${name}[i / 8u][i / 4u % 2u][i % 4u]` };
}

/** f16 accesses of four elements in kernels with WGSL's f16. */
const wgslF16Form = (name: string): Form => ({
  type: "vec4<f16>",
  read: "return vec4f(w);",
  write: "vec4<f16>(v)",
  one: `f32(${name}[i / 4u][i % 4u])`,
});

/**
 * The forms of f16 accesses, by width, in kernels without WGSL's f16: packed, so that the feature
 * `shader-f16` is not needed.
 */
function f16Form(name: string, width: 4 | 8, longWords: boolean): Form {
  const one = (word: string) => `unpack2x16float(${word})[i % 2u]`;
  if (width === 4) {
    return longWords
      ? {
        type: "u64",
        read: `let p = vec2u(u32(w), u32(w >> 32u)); return ${unpack4("p")};`,
        write: "u64(pack2x16float(v.xy)) | (u64(pack2x16float(v.zw)) << 32u)",
        one: one(longWord(name, 2, "(i / 2u)")),
      }
      : {
        type: "vec2u",
        read: `return ${unpack4("w")};`,
        write: `vec2u(${pack4("v")})`,
        one: one(`${name}[i / 4u][i / 2u % 2u]`),
      };
  }
  const packed = `vec4u(${pack4("v[0]")}, ${pack4("v[1]")})`;
  return longWords
    ? {
      type: "vec2<u64>",
      read: `let p = ${split4("w")}; return mat2x4f(${unpack4("p.xy")}, ${unpack4("p.zw")});`,
      write: join4(packed),
      one: one(longWord(name, 4, "(i / 2u)")),
    }
    : {
      type: "vec4u",
      read: `return mat2x4f(${unpack4("w.xy")}, ${unpack4("w.zw")});`,
      write: packed,
      one: one(`${name}[i / 8u][i / 2u % 4u]`),
    };
}

/**
 * Accessors of a binding that moves one element, a vec4, or eight elements as a mat2x4f.
 *
 * @throws {DTypeError} for a dtype other than f32 and f16, and for f16 elements written one by one
 */
export function accessorsOf(
  kernel: string,
  name: string,
  dtype: DType,
  { width, access, longWords, hasF16 = false }: AccessOptions,
): Accessors {
  if (dtype !== "f32" && dtype !== "f16") {
    throw new DTypeError(`Cannot bind ${name} to ${kernel} as the binding takes f32 or f16: ${dtype}`);
  }
  if (width === 1) return oneByOne(kernel, name, dtype, { access, hasF16 });
  const element = width === 4 ? "vec4f" : "mat2x4f";
  const readsF16 = hasF16 && width === 4, storesF16 = readsF16 && dtype === "f16";
  const { type, read, write, one } = storesF16
    ? wgslF16Form(name)
    : (dtype === "f32" ? f32Form : f16Form)(name, width, longWords);
  const accessors = `fn ${name}_at(i: u32) -> ${element} { let w = ${name}[i]; ${read} } ` +
    `fn ${name}_element_at(i: u32) -> f32 { return ${one}; }` +
    (readsF16 ? halfAccessor(name, "vec4<f16>", storesF16 ? `${name}[i]` : undefined) : "");
  const put = ` fn ${name}_put(i: u32, v: ${element}) { ${name}[i] = ${write}; }`;
  return { type: `array<${type}>`, accessors: access === "read" ? accessors : accessors + put };
}

/** `NAME_half_at`: an access of the WGSL type `type`, by default rounded from f32. */
const halfAccessor = (name: string, type: string, value = `${type}(${name}_at(i))`) =>
  ` fn ${name}_half_at(i: u32) -> ${type} { return ${value}; }`;

/** Accessors of a binding that moves one element. */
function oneByOne(
  kernel: string,
  name: string,
  dtype: "f32" | "f16",
  { access, hasF16 }: { readonly access: "read" | "write"; readonly hasF16: boolean },
): Accessors {
  const [type, element] = dtype === "f32" ? ["f32", `${name}[i]`] : ["u32", `unpack2x16float(${name}[i / 2u])[i % 2u]`];
  const at = `fn ${name}_at(i: u32) -> f32 { return ${element}; }` + (hasF16 ? halfAccessor(name, "f16") : "");
  if (access === "read") return { type: `array<${type}>`, accessors: at };
  if (dtype === "f32") {
    return { type: "array<f32>", accessors: `${at} fn ${name}_put(i: u32, v: f32) { ${name}[i] = v; }` };
  }
  throw new DTypeError(
    `Cannot write ${name} of ${kernel} in f16 as f16 is written as vec4 and the row length is not a multiple of 4: use f32`,
  );
}
