import type { DType } from "../dtype.ts";
import { DTypeError } from "../errors.ts";

/** WGSL that declares how one binding is accessed. */
export interface Accessors {
  /** Type of the storage variable. */
  readonly type: string;
  /** The functions `NAME_at`, `NAME_first`, `NAME_last` and `NAME_put`. */
  readonly accessors: string;
}

/**
 * Accessors of a binding that moves one element or a vec4.
 *
 * f16 is packed into 32-bit words, so the feature `shader-f16` is not needed.
 *
 * @throws {DTypeError} for a dtype other than f32 and f16, and for f16 elements written one by one
 */
export function vectorAccessors(
  kernel: string,
  name: string,
  width: number,
  dtype: DType,
  access: "read" | "write",
): Accessors {
  const element = width === 4 ? "vec4f" : "f32";
  const at = (type: string, expression: string) => ({
    type: `array<${type}>`,
    accessors: `fn ${name}_at(i: u32) -> ${element} { return ${expression}; }`,
  });
  if (dtype === "f32") {
    const { type, accessors: whole } = at(element, `${name}[i]`);
    const one = (suffix: string, component: string) =>
      `fn ${name}_${suffix}(i: u32) -> f32 { return ${name}[i].${component}; }`;
    const accessors = width === 4 ? `${whole} ${one("first", "x")} ${one("last", "w")}` : whole;
    if (access === "read") return { type, accessors };
    return { type, accessors: `${accessors} fn ${name}_put(i: u32, value: ${element}) { ${name}[i] = value; }` };
  }
  if (dtype === "f16" && width === 4) {
    const { type, accessors: whole } = at(
      "vec2u",
      `vec4f(unpack2x16float(${name}[i].x), unpack2x16float(${name}[i].y))`,
    );
    const accessors = `${whole} fn ${name}_first(i: u32) -> f32 { return unpack2x16float(${name}[i].x).x; } ` +
      `fn ${name}_last(i: u32) -> f32 { return unpack2x16float(${name}[i].y).y; }`;
    if (access === "read") return { type, accessors };
    const packed = "vec2u(pack2x16float(value.xy), pack2x16float(value.zw))";
    return { type, accessors: `${accessors} fn ${name}_put(i: u32, value: vec4f) { ${name}[i] = ${packed}; }` };
  }
  if (dtype === "f16") {
    if (access === "read") return at("u32", `unpack2x16float(${name}[i / 2u])[i % 2u]`);
    throw new DTypeError(
      `Cannot write ${name} of ${kernel} in f16 as f16 is written as vec4 and the row length is not a multiple of 4: use f32`,
    );
  }
  throw new DTypeError(`Cannot bind ${name} to ${kernel} as the binding takes f32 or f16: ${dtype}`);
}

/**
 * Accessors of a binding that moves eight elements, as a mat2x4f.
 *
 * Devices that scalarize loads ({@linkcode GpuInfo.longWords}) read f32 as four 64-bit words, since
 * they pay per word and not per byte.
 *
 * @throws {DTypeError} for a dtype other than f32 and f16
 */
export function vec8Accessors(
  kernel: string,
  name: string,
  dtype: DType,
  { access, longWords }: { access: "read" | "write"; longWords: boolean },
): Accessors {
  const forms: Partial<Record<DType, Record<"type" | "read" | "write" | "first" | "last", string>>> = {
    f16: {
      type: "vec4u",
      read: `let w = ${name}[i]; return mat2x4f(vec4f(unpack2x16float(w.x), unpack2x16float(w.y)), ` +
        `vec4f(unpack2x16float(w.z), unpack2x16float(w.w)));`,
      write:
        `${name}[i] = vec4u(pack2x16float(v[0].xy), pack2x16float(v[0].zw), pack2x16float(v[1].xy), pack2x16float(v[1].zw));`,
      first: `unpack2x16float(${name}[i].x).x`,
      last: `unpack2x16float(${name}[i].w).y`,
    },
    f32: longWords
      ? {
        type: "vec4<u64>",
        read: `let w = ${name}[i]; let l = bitcast<vec4f>(vec4u(w)); let h = bitcast<vec4f>(vec4u(w >> vec4u(32u))); ` +
          `return mat2x4f(vec4f(l.x, h.x, l.y, h.y), vec4f(l.z, h.z, l.w, h.w));`,
        write: `let l = bitcast<vec4u>(vec4f(v[0].xz, v[1].xz)); let h = bitcast<vec4u>(vec4f(v[0].yw, v[1].yw)); ` +
          `${name}[i] = vec4<u64>(l) | (vec4<u64>(h) << vec4u(32u));`,
        first: `bitcast<f32>(u32(${name}[i].x))`,
        last: `bitcast<f32>(u32(${name}[i].w >> 32u))`,
      }
      : {
        type: "mat2x4f",
        read: `return ${name}[i];`,
        write: `${name}[i] = v;`,
        first: `${name}[i][0].x`,
        last: `${name}[i][1].w`,
      },
  };
  const form = forms[dtype];
  if (!form) throw new DTypeError(`Cannot bind ${name} to ${kernel} as the binding takes f32 or f16: ${dtype}`);
  const { type, read, write, first, last } = form;
  const at = `fn ${name}_at(i: u32) -> mat2x4f { ${read} } fn ${name}_first(i: u32) -> f32 { return ${first}; } ` +
    `fn ${name}_last(i: u32) -> f32 { return ${last}; }`;
  return {
    type: `array<${type}>`,
    accessors: access === "read" ? at : `${at} fn ${name}_put(i: u32, v: mat2x4f) { ${write} }`,
  };
}
