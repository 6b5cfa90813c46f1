/** What a painter reports of errors. */
import { assertEquals } from "@std/assert";
import { EditError } from "../../pipeline/errors.ts";
import { failureOf, withShortQuotations } from "../../studio/failure.ts";

Deno.test("long quotations of a message are shortened in their middle, whatever they hold", () => {
  const prompt = `${"a rose ".repeat(40)}by "night"`;
  const message = `Cannot edit ${JSON.stringify(prompt)} to "blue": shorten it`;
  const { kind, message: shown } = failureOf(new EditError(message));
  assertEquals(kind, "input");
  assertEquals(shown.length < 130, true, shown);
  assertEquals([shown.startsWith('Cannot edit "a rose a rose'), shown.endsWith('night\\"" to "blue": shorten it')], [
    true,
    true,
  ]);
  assertEquals(withShortQuotations('It has no "unet"'), 'It has no "unet"');
});
