import { assertEquals } from "@std/assert";
import { predictionsText } from "../../cli/edit_report.ts";

Deno.test("predictionsText() ends each figure in the column of its head, largest leakage first", () => {
  const row = (prompt: string, leakage: number, share: number, cosine: number) => ({
    prompt,
    leakage,
    share,
    nearest: { source: "A car", cosine },
    warning: share > 0.5,
  });
  const rows = [row("a cat", 0.033, 0.06, -0.01), row("a car on the beach", 0.5367, 1, 1)];
  assertEquals(predictionsText(rows).split("\n"), [
    "  prompt              leakage  of the sources'  nearest source (cosine)",
    "  a car on the beach   0.5367            100 %  A car (1.00)  will change",
    "  a cat                0.0330              6 %  A car (-0.01)",
  ]);
});
