/**
 * Values of a painter as JSON text: bytes become base64, NaN a marker. Both ends of the server's
 * interface use it.
 *
 * @module
 */

/** Markers, as the only key of an object. */
const markers = { bytes: "$bytes", clamped: "$clamped", nan: "$nan" } as const;

/** A value as JSON text in one line. */
export function encodeWire(value: unknown): string {
  return JSON.stringify(value, (_key, part) => {
    if (part instanceof Uint8ClampedArray) return { [markers.clamped]: toBase64(part) };
    if (part instanceof Uint8Array) return { [markers.bytes]: toBase64(part) };
    return Number.isNaN(part) ? { [markers.nan]: true } : part;
  });
}

/**
 * The value of a text that {@linkcode encodeWire} wrote.
 *
 * @throws {SyntaxError} if it is not such a text
 */
export function decodeWire(text: string): unknown {
  return JSON.parse(text, (_key, part) => {
    if (typeof part !== "object" || part === null) return part;
    const [name, ...others] = Object.keys(part);
    if (others.length > 0) return part;
    const content: unknown = part[name];
    if (name === markers.nan) return NaN;
    if (typeof content !== "string") return part;
    if (name === markers.bytes) return fromBase64(content);
    return name === markers.clamped ? new Uint8ClampedArray(fromBase64(content).buffer) : part;
  });
}

/** Arguments of one call of `String.fromCharCode`: more may overflow the stack. */
const chunk = 1 << 14;

function toBase64(bytes: Uint8Array | Uint8ClampedArray): string {
  let binary = "";
  for (let start = 0; start < bytes.length; start += chunk) {
    binary += String.fromCharCode(...bytes.subarray(start, start + chunk));
  }
  return btoa(binary);
}

function fromBase64(text: string): Uint8Array<ArrayBuffer> {
  let binary;
  try {
    binary = atob(text);
  } catch (cause) {
    throw new SyntaxError("Cannot read bytes as they are not in base64", { cause });
  }
  return Uint8Array.from(binary, (character) => character.charCodeAt(0));
}
