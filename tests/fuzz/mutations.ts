/**
 * Random changes to a JSON value: values of other types, missing and surplus keys, hostile names
 * and numbers.
 *
 * @module
 */

import fc from "fast-check";

type Json = null | boolean | number | string | Json[] | { [key: string]: Json };

const hostile: fc.Arbitrary<unknown> = fc.oneof(
  fc.constantFrom<unknown>(null, true, 0, -1, 1.5, 1e9, 1e300, -1e-300, "", "../../evil", "constructor", [], {}),
  fc.constantFrom<unknown>("__proto__", "\0", "\u202e", "NaN", [null], [[]], { length: 1e9 }),
  fc.jsonValue({ maxDepth: 2 }),
);

/** One change: where (an index into all places of the value), and what to put there. */
const change = fc.record({
  place: fc.nat({ max: 10_000 }),
  kind: fc.constantFrom("replace", "remove", "add"),
  key: fc.constantFrom("extra", "__proto__", "constructor", "toString", "0"),
  value: hostile,
});

/** `value` after one to three random changes, as JSON text. */
export function mutated(value: unknown): fc.Arbitrary<string> {
  return fc.array(change, { minLength: 1, maxLength: 3 }).map((changes) => {
    const root = { value: JSON.parse(JSON.stringify(value)) as Json };
    for (const { place, kind, key, value } of changes) {
      const places = placesIn(root);
      const { holder, name } = places[place % places.length];
      const inside = holder[name];
      if (kind === "remove" && holder !== root) delete holder[name];
      else if (kind === "add" && typeof inside === "object" && inside !== null) put(inside as never, key, value);
      else put(holder, name, value);
    }
    return JSON.stringify(root.value) ?? "null";
  });
}

/** As JSON.parse does: an own property, even for "__proto__". */
function put(holder: Record<string, Json>, key: string, constant: unknown): void {
  const value = structuredClone(constant); // later changes must not reach the constant
  Object.defineProperty(holder, key, { value, enumerable: true, configurable: true, writable: true });
}

interface Place {
  readonly holder: Record<string, Json>;
  readonly name: string;
}

function placesIn(holder: Record<string, Json>): Place[] {
  return Object.entries(holder).flatMap(([name, value]) => [
    { holder, name },
    ...(typeof value === "object" && value !== null ? placesIn(value as Record<string, Json>) : []),
  ]);
}
