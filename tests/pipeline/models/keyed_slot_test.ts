import { assertEquals } from "@std/assert";
import { KeyedSlot } from "../../../pipeline/models/keyed_slot.ts";

/** A value that records its disposal. */
function value(log: string[], name: string): Disposable & { name: string } {
  return { name, [Symbol.dispose]: () => void log.push(name) };
}

Deno.test("a slot keeps its last value while the key stays the same, and frees it for another key", () => {
  const freed: string[] = [];
  using slot = new KeyedSlot<ReturnType<typeof value>>();
  const use = (key: readonly unknown[] | undefined, name: string) => {
    using lease = slot.take(key, () => value(freed, name));
    lease.keep();
    return lease.value.name;
  };
  const object = {};
  assertEquals(use([1, object], "a"), "a");
  assertEquals(use([1, object], "b"), "a");
  assertEquals(use([1, {}], "c"), "c", "objects are compared by identity");
  assertEquals(freed, ["a"]);
  assertEquals(use(undefined, "d"), "d");
  assertEquals(freed, ["a", "c", "d"], "a value without a key is not kept");
});

Deno.test("values in use are not shared, and are not returned to the slot after an error or clear()", () => {
  const freed: string[] = [];
  const slot = new KeyedSlot<ReturnType<typeof value>>();
  const first = slot.take(["k"], () => value(freed, "first"));
  const second = slot.take(["k"], () => value(freed, "second"));
  assertEquals([first.value.name, second.value.name], ["first", "second"]);
  first.keep();
  first[Symbol.dispose]();
  second[Symbol.dispose](); // not marked to be kept
  assertEquals(freed, ["second"]);
  const again = slot.take(["k"], () => value(freed, "third"));
  assertEquals(again.value.name, "first");
  slot.clear();
  again.keep();
  again[Symbol.dispose]();
  assertEquals(freed, ["second", "first"]);
});
