import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { deviceNamed, kernelTexts, laidOut } from "../../bench/wgsl.ts";

/** A text without comments and white space. */
const compact = (text: string) => text.replace(/\/\/[^\n]*/g, "").replace(/\s+/g, "");

Deno.test("laidOut() gives each statement a line, keeps comments beside theirs, and changes no token", () => {
  const text = `struct Row { start: u32 } // of A
fn main() { let a = 1u; // one
  // two
  for (var i = 0u; i < a; i++) { if (i == a) { return; } else { a_put(i,
    4.0 / 2.0); } } }`;
  assertEquals(
    laidOut(text),
    `struct Row {
  start: u32
} // of A
fn main() {
  let a = 1u; // one
  // two
  for (var i = 0u; i < a; i++) {
    if (i == a) {
      return;
    } else {
      a_put(i, 4.0 / 2.0);
    }
  }
}`,
  );
});

for (const device of ["nvidia", "other", "f16", "matrices"]) {
  Deno.test(`kernelTexts() for ${device}, laid out, keep their tokens and have a statement a line`, () => {
    const texts = kernelTexts(deviceNamed(device)!, /^(matmul|conv2d|attention).*pocket/);
    assert(new Set(texts.map(({ kernel }) => kernel)).size > 2);
    for (const { wgsl, kernel } of texts) {
      const text = laidOut(wgsl);
      assertEquals(compact(text), compact(wgsl), kernel);
      for (const line of text.split("\n")) {
        const statement = line.replace(/\/\/.*/, "").replace(/for \(.*\) \{/, "{").trim();
        assert(!/[;{}]./.test(statement.replace(/^\} else/, "else")), line);
      }
    }
    const products = texts.filter(({ kernel }) => kernel === "matmul").map(({ wgsl }) => wgsl).join();
    assertStringIncludes(products, device === "f16" ? "vec4<f16>" : "vec4f");
  });
}

Deno.test("deviceNamed() knows no other names", () => assertEquals(deviceNamed("cray"), undefined));
