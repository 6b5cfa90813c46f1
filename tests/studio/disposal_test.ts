/** The disposable stack of browsers without one, against the runtime's own. */
import { assertEquals, assertThrows } from "@std/assert";
import { Stack } from "../../studio/page/disposal.ts";

/** What a stack does, step by step. */
function trace(make: () => DisposableStack | Stack): unknown[] {
  const steps: unknown[] = [];
  const stack = make();
  const resource = { [Symbol.dispose]: () => void steps.push("used") };
  steps.push(stack.use(resource) === resource, stack.use(null), stack.adopt(7, (value) => steps.push(value)));
  stack.defer(() => steps.push("deferred"));
  const moved = stack.move();
  steps.push(stack.disposed, moved.disposed);
  for (const late of [() => stack.defer(() => {}), () => stack.move(), () => stack.use(resource)]) {
    steps.push(assertThrows(late, ReferenceError).name);
  }
  moved[Symbol.dispose]();
  moved.dispose();
  steps.push(moved.disposed, String(moved), assertThrows(() => make().use({} as Disposable), TypeError).name);
  return steps;
}

Deno.test("the stack does what the runtime's does, in its order", () => {
  const steps = trace(() => new Stack());
  assertEquals(steps, trace(() => new DisposableStack()));
  assertEquals(steps.slice(8, 11), ["deferred", 7, "used"]);
});

Deno.test("errors of disposal are thrown after the rest is disposed of, the later one around the earlier", () => {
  const thrownBy = (stack: DisposableStack | Stack) => {
    const done: string[] = [];
    stack.defer(() => void done.push("first"));
    for (const message of ["inner", "middle", "outer"]) stack.defer(() => fails(message));
    const { name, error, suppressed } = assertThrows(() => stack.dispose()) as SuppressedError;
    return [done, name, error.message, suppressed.error.message, suppressed.suppressed.message];
  };
  assertEquals(thrownBy(new Stack()), thrownBy(new DisposableStack()));
});

function fails(message: string): never {
  throw new Error(message);
}
