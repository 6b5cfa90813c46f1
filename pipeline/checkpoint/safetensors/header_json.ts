/**
 * A strict JSON reader for safetensors headers. It differs from `JSON.parse` where the format does:
 *
 * - A key that stands twice in one object is refused, however it is escaped or spaced.
 * - Text must be valid Unicode: escapes of lone surrogates are refused.
 * - Numbers keep their spelling, so that `1.0` is told apart from `1`, and 2⁵³ + 1 from 2⁵³.
 * - Nesting is limited, so that a hostile header cannot exhaust the stack.
 * - Objects are maps, so that no key is special (`__proto__`).
 *
 * It is also independent of a fault in V8 15.0 (Deno 2.9.6): after several objects of one layout,
 * `JSON.parse` returns a wrong name for an escaped key. A test shows the case.
 *
 * @module
 */

/** A value in a header. */
export type HeaderValue = null | boolean | string | HeaderNumber | HeaderValue[] | HeaderObject;

/** An object in a header, with its keys in the order of the text. */
export type HeaderObject = Map<string, HeaderValue>;

/** A number as it is written. */
export class HeaderNumber {
  /** Keeps the spelling. */
  constructor(readonly text: string) {}

  /** The value if it is written as a whole number from 0 to 2⁶⁴ − 1, and null otherwise. */
  get whole(): bigint | null {
    if (!/^[0-9]{1,20}$/.test(this.text)) return null;
    const value = BigInt(this.text);
    return value < 2n ** 64n ? value : null;
  }
}

/** The header's text is not JSON, or breaks one of the rules above. The message has no subject. */
export class HeaderFault extends Error {}

/** The deepest nesting that is read: the limit of the reference implementation's JSON reader. */
const maxDepth = 128;

/**
 * Reads a header's text. Spaces may follow the value.
 *
 * @throws {HeaderFault} saying what is wrong and at which character
 */
export function parseHeaderJson(text: string): HeaderValue {
  let at = 0;
  let depth = 0;
  const value = readValue();
  skipSpace();
  if (at < text.length) unexpected();
  return value;

  function unexpected(): never {
    const found = at < text.length ? JSON.stringify(text[at]) : "the end of the text";
    throw new HeaderFault(`is not JSON: ${found} is unexpected at character ${at}`);
  }

  function skipSpace(): void {
    while (text[at] === " " || text[at] === "\n" || text[at] === "\r" || text[at] === "\t") at++;
  }

  /** Steps over `char`, and says whether it was there. */
  function accept(char: string): boolean {
    if (text[at] !== char) return false;
    at++;
    return true;
  }

  function readValue(): HeaderValue {
    skipSpace();
    const char = text[at];
    if (char === "{") return nested(readObject);
    if (char === "[") return nested(readList);
    if (char === '"') return readString();
    for (const [word, value] of [["null", null], ["true", true], ["false", false]] as const) {
      if (text.startsWith(word, at)) {
        at += word.length;
        return value;
      }
    }
    const number = /-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?/y;
    number.lastIndex = at;
    const match = number.exec(text);
    if (match === null) unexpected();
    if (!Number.isFinite(Number(match[0]))) throw new HeaderFault(`holds a number out of range at character ${at}`);
    at = number.lastIndex;
    return new HeaderNumber(match[0]);
  }

  function nested<T>(read: () => T): T {
    if (++depth > maxDepth) throw new HeaderFault(`nests deeper than ${maxDepth} levels`);
    at++;
    const value = read();
    depth--;
    return value;
  }

  function readObject(): HeaderObject {
    const object: HeaderObject = new Map();
    skipSpace();
    if (accept("}")) return object;
    while (true) {
      skipSpace();
      if (text[at] !== '"') unexpected();
      const key = readString();
      if (object.has(key)) throw new HeaderFault(`holds the key ${JSON.stringify(key)} twice`);
      skipSpace();
      if (!accept(":")) unexpected();
      object.set(key, readValue());
      skipSpace();
      if (accept("}")) return object;
      if (!accept(",")) unexpected();
    }
  }

  function readList(): HeaderValue[] {
    const list: HeaderValue[] = [];
    skipSpace();
    if (accept("]")) return list;
    while (true) {
      list.push(readValue());
      skipSpace();
      if (accept("]")) return list;
      if (!accept(",")) unexpected();
    }
  }

  function readString(): string {
    const start = at++;
    let escaped = false;
    while (at < text.length && text[at] !== '"') {
      if (text[at] === "\\") {
        escaped = true;
        at++;
      } else if (text[at] < " ") {
        unexpected();
      }
      at++;
    }
    if (at >= text.length) {
      at = text.length;
      unexpected();
    }
    at++;
    if (!escaped) return text.slice(start + 1, at - 1); // decoded UTF-8 holds no lone surrogate
    let string: string;
    try {
      string = JSON.parse(text.slice(start, at));
    } catch {
      throw new HeaderFault(`is not JSON: the string at character ${start} holds an invalid escape`);
    }
    if (!string.isWellFormed()) {
      throw new HeaderFault(`holds text that is not valid Unicode, at character ${start}`);
    }
    return string;
  }
}
