/** Recipes in links: what goes in comes out, and nothing else comes in. */
import { assert, assertEquals, assertRejects } from "@std/assert";
import { LinkError, linkFragment, readFragment } from "../../studio/page/link.ts";
import { otherMethods } from "./requests.ts";
import { defaultRecipe, type Recipe } from "../../studio/page/state.ts";

const recipe: Recipe = {
  edits: [
    ...defaultRecipe.edits,
    ...otherMethods,
    {
      pairs: [{ source: "a cat", destination: "a white cat" }, { source: "猫", destination: "白い 猫" }],
      lambda: 12.5,
      strength: -0.5,
      withToK: false,
      enabled: false,
      preserve: ["a “dog” & co", "🌹"],
    },
  ],
  prompts: [...defaultRecipe.prompts, { text: "", group: "unrelated" }],
  settings: { ...defaultRecipe.settings, seed: "18446744073709551615", sampler: "ddim", width: 512, height: 384 },
};

async function fragmentOf(value: unknown): Promise<string> {
  return await linkFragment(value as Parameters<typeof linkFragment>[0]);
}

Deno.test("a link restores the recipe and the model's name", async () => {
  const fragment = await linkFragment({ recipe, model: "pocket" });
  assertEquals(await readFragment(`#${fragment}`), { recipe, model: "pocket" });
  assert(/^1=[A-Za-z0-9_-]+$/.test(fragment), "needs no escaping");
  assert(fragment.length < 700, `${fragment.length} characters`);
});

Deno.test("fragments that are no recipe are ignored", async () => {
  for (const fragment of ["", "#", "#history", "#a=b"]) assertEquals(await readFragment(fragment), undefined);
});

Deno.test("damaged and foreign links are refused with a reason", async () => {
  const fragment = await linkFragment({ recipe, model: "pocket" });
  await assertRejects(() => readFragment(fragment.slice(0, -20)), LinkError, "damaged");
  await assertRejects(() => readFragment("1=%%%"), LinkError, "damaged");
  await assertRejects(() => readFragment("2=abc"), LinkError, "newer");
  await assertRejects(() => readFragment(`1=${"A".repeat(60_001)}`), LinkError, "more than");
});

Deno.test("a link that unpacks to megabytes is refused without unpacking them", async () => {
  const linked = { recipe: { ...recipe, prompts: [{ text: "a".repeat(3e7), group: "related" }] }, model: "" };
  const packed = new Blob([JSON.stringify(linked)]).stream().pipeThrough(new CompressionStream("deflate-raw"));
  const bomb = `1=${new Uint8Array(await new Response(packed).arrayBuffer()).toBase64({ alphabet: "base64url" })}`;
  assert(bomb.length < 60_000);
  await assertRejects(() => readFragment(bomb), LinkError);
  await assertRejects(() => fragmentOf(linked), LinkError, "too long for a link");
});

Deno.test("a recipe whose link could not be read gets none", async () => {
  const prompts = Array.from({ length: 60 }, (): Recipe["prompts"][number] => {
    return { text: crypto.getRandomValues(new Uint8Array(1000)).toHex(), group: "related" };
  });
  await assertRejects(() => linkFragment({ recipe: { ...recipe, prompts }, model: "" }), LinkError, "too long");
  const half = { ...recipe, prompts: prompts.slice(0, 30) };
  assertEquals((await readFragment(await linkFragment({ recipe: half, model: "" })))?.recipe, half);
});

Deno.test("settings out of bounds are refused by name", async () => {
  const cases: [string, unknown][] = [
    ["recipe.settings.steps", { ...recipe, settings: { ...recipe.settings, steps: 1e9 } }],
    ["recipe.settings.seed", { ...recipe, settings: { ...recipe.settings, seed: "18446744073709551616" } }],
    ["recipe.settings.width", { ...recipe, settings: { ...recipe.settings, width: 1e6 } }],
    ["recipe.edits[0].lambda", { ...recipe, edits: [{ ...recipe.edits[0], lambda: 0 }] }],
    ["recipe.edits[0].method", { ...recipe, edits: [{ ...recipe.edits[0], method: "other" }] }],
    ["recipe.edits[0].threshold", { ...recipe, edits: [{ ...recipe.edits[0], threshold: 0 }] }],
    ["recipe.edits[0].pairs", { ...recipe, edits: [{ ...recipe.edits[0], pairs: [] }] }],
    ["recipe.prompts[0].group", { ...recipe, prompts: [{ text: "a", group: "other" }] }],
    ["recipe.prompts", { ...recipe, prompts: Array(1000).fill({ text: "a", group: "related" }) }],
    ["recipe.prompts[0].text", { ...recipe, prompts: [{ text: "a".repeat(3000), group: "related" }] }],
    ["recipe.edits is missing", { ...recipe, edits: undefined }],
  ];
  for (const [reason, bad] of cases) {
    await assertRejects(
      async () => await readFragment(await fragmentOf({ recipe: bad, model: "" })),
      LinkError,
      reason,
    );
  }
});
