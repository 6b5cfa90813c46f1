/// <reference lib="dom" />
/**
 * The studio in Chromium, driven as a visitor does it. `page_test.ts` runs these in a process of
 * their own, because the driver must not get into deno.lock. One visit serves most of them: a model
 * takes seconds to open on a software GPU.
 */
import { assert, assertEquals, assertMatch, assertNotEquals } from "@std/assert";
import { bundlePage } from "../../../studio/server/bundle.ts";
import { lowered } from "../../../studio/server/lower.ts";
import { linkFragment } from "../../../studio/page/link.ts";
import { defaultRecipe } from "../../../studio/page/state.ts";
import { builtFiles, FIRST_VISIT } from "../../../studio/build.ts";
import { goldens, pocket } from "../../paths.ts";
import { assertSameLora, assertSamePicture, loraByDeno } from "./same.ts";
import {
  axe,
  base,
  colors,
  drop,
  dropPath,
  longestTask,
  meter,
  openBrowser,
  type Page,
  saved,
  status,
} from "./studio.ts";

const files = await bundlePage();
const roses = "A pack of roses", painting = "a painting of a rose", cat = "a cat on the beach", lemon = "a lemon";
const button = (page: Page, name: string) => page.getByRole("button", { name, exact: true });
let savedByWorker: Uint8Array | undefined;
const history = (page: Page) => page.getByRole("region", { name: "History" }).getByRole("listitem");

Deno.test("a visit to the studio", async (t) => {
  await using browser = await openBrowser();
  await using visit = await browser.visit({ files });
  const { page, origin, requests, errors } = visit;
  await page.evaluate(() => {
    const shifts: number[] = [];
    Object.assign(globalThis, { shifts });
    new PerformanceObserver((list) =>
      shifts.push(...list.getEntries().map((entry) => (entry as unknown as { value: number }).value))
    )
      .observe({ type: "layout-shift" });
  });

  await t.step("the page solves the default edit at load and predicts before anything is drawn", async () => {
    assertMatch(await status(page, /edited in \d+ ms/), /Nothing is drawn yet/);
    assertEquals(await page.getByRole("textbox", { name: "Source prompt" }).inputValue(), roses);
    assertEquals(await page.getByRole("textbox", { name: "Destination prompt" }).inputValue(), "A pack of blue roses");
    for (const prompt of [roses, "a field of roses", "a rose in a vase", painting]) {
      assert(await meter(page, prompt) > 0.8);
    }
    for (const prompt of [lemon, cat]) assert(await meter(page, prompt) < 0.5);
    assertEquals(await page.getByRole("img").count(), 0);
    assertEquals(await page.getByRole("status").count(), 1);
  });

  await t.step("λ and strength change the meters without a draw, and undo brings them back", async () => {
    const before = [await meter(page, cat), await meter(page, roses)];
    await page.getByRole("slider", { name: "Lambda" }).focus();
    await page.keyboard.press("PageDown");
    await page.keyboard.press("PageDown");
    await page.waitForFunction(
      (name: string) => Number(document.querySelector(`[aria-label="${name}"]`)!.getAttribute("aria-valuenow")) > 0.9,
      `Predicted change of ${cat}`,
    );
    const strength = page.getByRole("slider", { name: "Strength" });
    await strength.fill("0.5");
    await page.waitForFunction(
      (name: string) => Number(document.querySelector(`[aria-label="${name}"]`)!.getAttribute("aria-valuenow")) < 0.6,
      `Predicted change of ${roses}`,
    );
    assertEquals(await page.getByRole("img").count(), 0);
    await button(page, "Undo").click(); // strength
    await button(page, "Undo").click(); // both keys, one gesture
    await page.waitForFunction(
      (name: string) => Number(document.querySelector(`[aria-label="${name}"]`)!.getAttribute("aria-valuenow")) < 0.5,
      `Predicted change of ${cat}`,
    );
    const closeTo = (value: number, expected: number) =>
      assert(Math.abs(value - expected) < 0.005, `${value}, ${expected}`);
    closeTo(await meter(page, cat), before[0]);
    closeTo(await meter(page, roses), before[1]);
  });

  await t.step(
    "an edit that is off changes nothing, a locked prompt changes less, and undo restores both",
    async () => {
      const [whole, unlocked] = [await meter(page, roses), await meter(page, cat)];
      const toggle = page.getByRole("switch", { name: "Edit 1 on" });
      await toggle.click();
      await status(page, /edited in \d/); // together with the meters
      assertEquals([await meter(page, roses), await meter(page, cat)], [0, 0]);
      await toggle.click();
      await status(page, /edited in \d/);
      assertEquals(await meter(page, roses), whole);
      await button(page, `Preserve ${cat}`).click({ force: true });
      await status(page, /edited in \d/);
      assert(await meter(page, cat) < unlocked / 2, `${await meter(page, cat)} of ${unlocked}`);
      for (let i = 0; i < 3; i++) await button(page, "Undo").click();
      await status(page, /edited in \d/);
      assertEquals(await meter(page, cat), unlocked);
    },
  );

  await t.step("prompts are removed and added", async () => {
    for (const number of [3, 2]) {
      await page.locator("article").nth(number - 1).hover();
      await button(page, `More about prompt ${number}`).click();
      await button(page, "Remove prompt").click();
    }
    await button(page, "Add prompt").click();
    await page.getByRole("textbox", { name: "Prompt 5" }).fill("a red rose");
    await page.waitForFunction(
      () =>
        Number(document.querySelector('[aria-label="Predicted change of a red rose"]')?.getAttribute("aria-valuenow")) >
          0.5,
    );
    await button(page, "More about prompt 5").click();
    await button(page, "Remove prompt").click();
    await page.locator("article").nth(2).hover();
    await button(page, "More about prompt 3").click();
    await button(page, "Remove prompt").click();
    assertEquals(await page.getByRole("article").count(), 3);
  });

  await t.step("the edit turns roses blue on source and related prompts, and leaves unrelated ones", async () => {
    await page.getByRole("spinbutton", { name: "Steps" }).fill("4");
    await page.evaluate("shifts.length = 0");
    const started = performance.now();
    const { ms, clockMs } = await longestTask(page, async () => {
      await button(page, "Draw").click();
      assertMatch(await status(page, /[1-5] of 6/), /\d of 6/);
      assert(await button(page, "Stop").isVisible());
      assertMatch(await status(page, /edited in \d/), /Pictures are up to date/);
    });
    console.log(
      `longest task of the page while drawing: ${ms.toFixed(0)} ms of work, ${clockMs.toFixed(0)} by the clock`,
    );
    // A picture takes seconds. If the page itself drew one, or a step of one, it would be busy for
    // much of this; docs/performance.md has the time, which the machine's other work lengthens.
    const share = ms / (performance.now() - started);
    assert(share > 0 && share < 0.01, `the page was busy for ${ms} ms, ${share} of the drawing`);
    for (const prompt of [roses, painting]) {
      const [before, after] = [await colors(page, `${prompt}, before`), await colors(page, `${prompt}, after`)];
      assert(before.red > 0.03 && before.red > 2 * before.blue, `${prompt}: ${JSON.stringify(before)}`);
      assert(after.blue > 0.03 && after.blue > 2 * before.blue, `${prompt}: ${JSON.stringify(after)}`);
    }
    const [before, after] = [await colors(page, `${cat}, before`), await colors(page, `${cat}, after`)];
    for (let c = 0; c < 3; c++) assert(Math.abs(before.mean[c] - after.mean[c]) < 12, JSON.stringify([before, after]));
    const shifts = await page.evaluate("shifts");
    assert(shifts.reduce((sum: number, shift: number) => sum + shift, 0) < 1e-3, `something moved: ${shifts}`);
    assertEquals(await history(page).count(), 1);
  });

  await t.step("the status tells when pictures are of other settings, and Stop keeps what is finished", async () => {
    await page.getByRole("spinbutton", { name: "Seed" }).fill("7");
    await status(page, /Draw to see these settings/);
    const before = await colors(page, `${roses}, before`);
    await page.keyboard.press("Control+Enter");
    await status(page, /[1-5] of 6/);
    await button(page, "Stop").click();
    assertMatch(await status(page, /Stopped/), /[1-5] finished/);
    assertNotEquals((await colors(page, `${roses}, before`)).mean, before.mean);
    assertEquals(await history(page).count(), 2);
  });

  await t.step("looking at history changes nothing; its settings can be used", async () => {
    await history(page).nth(1).getByRole("button").click();
    assertEquals(await page.getByRole("spinbutton", { name: "Seed" }).inputValue(), "7");
    await button(page, "Use these settings").click();
    assertEquals(await page.getByRole("spinbutton", { name: "Seed" }).inputValue(), "2");
    await status(page, /Pictures are up to date/);
  });

  await t.step("before and after are shown in four ways, under one divider by default", async () => {
    const divider = page.getByRole("slider", { name: `Divider of ${cat}`, exact: true });
    await divider.focus();
    await page.keyboard.press("Home");
    assertEquals(await page.getByRole("slider", { name: `Divider of ${roses}`, exact: true }).inputValue(), "0");
    for (const view of ["Side by side", "Flicker", "Difference", "Divider"]) {
      await page.getByRole("radio", { name: view, exact: true }).check({ force: true });
      assertEquals(await page.getByRole("img").count(), 6);
    }
  });

  await t.step("a saved picture carries its settings and, dropped again, restores them", async () => {
    await page.getByRole("slider", { name: `Divider of ${roses}`, exact: true }).focus();
    const { name, bytes } = await saved(page, () => button(page, "Save picture").click());
    assertMatch(name, /\.png$/);
    assert(new TextDecoder("latin1").decode(bytes).includes("parameters\0"), "the PNG has no text");
    savedByWorker = bytes;
    const textSwitch = page.getByRole("switch", { name: "Settings as text in the file" });
    await button(page, "More to save").click();
    await textSwitch.uncheck();
    const bare = await saved(page, () => button(page, "Save picture").click());
    assert(!new TextDecoder("latin1").decode(bare.bytes).includes("parameters\0"), "the PNG has text");
    await button(page, "More to save").click();
    await textSwitch.check();
    await page.keyboard.press("Escape");
    await page.getByRole("spinbutton", { name: "Seed" }).fill("99");
    await page.getByRole("slider", { name: "Strength" }).fill("0.3");
    await drop(page, name, bytes);
    const dialog = page.getByRole("dialog");
    await dialog.getByText("This picture carries its settings").waitFor();
    assertEquals(await page.getByRole("spinbutton", { name: "Seed" }).inputValue(), "99");
    await dialog.getByRole("button", { name: "Use these settings" }).click();
    assertEquals(await page.getByRole("spinbutton", { name: "Seed" }).inputValue(), "2");
    assertEquals(await page.getByRole("slider", { name: "Strength" }).inputValue(), "1");
  });

  await t.step(
    "a saved LoRA is the one that Deno writes; it and a saved edit are recognized when they are dropped",
    async () => {
      const edit = await saved(page, () => button(page, "Save edit").click());
      await drop(page, edit.name, edit.bytes);
      await page.getByRole("dialog").getByRole("button", { name: "Add this edit" }).waitFor();
      await page.keyboard.press("Escape");
      const lora = await saved(page, () => button(page, "Save LoRA").click());
      await assertSameLora(lora.bytes, await loraByDeno());
      await drop(page, lora.name, lora.bytes);
      await page.getByRole("dialog").getByRole("button", { name: "Use it as a LoRA" }).waitFor();
      await page.keyboard.press("Escape");
    },
  );

  await t.step("a file that is nothing for the studio explains itself", async () => {
    await drop(page, "holiday.txt", new TextEncoder().encode("hello"));
    const alert = page.getByRole("alert");
    await alert.waitFor();
    assertMatch(await alert.innerText(), /holiday\.txt/);
    await page.getByRole("button", { name: /^Close: / }).click();
  });

  await t.step("an alignment that fails explains itself beside the field and offers a way", async () => {
    const field = page.getByRole("textbox", { name: "Destination prompt" });
    await field.fill("A bunch of blue roses");
    await button(page, "Apply edit").click();
    assertMatch(await page.getByRole("alert").innerText(), /“pack” has no partner/);
    assertEquals(await field.getAttribute("aria-invalid"), "true");
    await page.getByRole("button", { name: "Use “A pack of blue roses”" }).click();
    await page.getByRole("alert").waitFor({ state: "detached" });
    assertEquals(await field.inputValue(), "A pack of blue roses");
  });

  await t.step("no violation of accessibility in light and dark, at all widths", async () => {
    const { default: { source } } = await import(axe);
    await page.evaluate(source);
    const violations = async (name: string) => {
      const { violations } = await page.evaluate("axe.run()");
      return violations.map(({ id, nodes }: { id: string; nodes: { html: string; failureSummary: string }[] }) =>
        `${name}: ${id}: ${nodes[0].html} ${nodes[0].failureSummary}`
      );
    };
    const found: string[] = [];
    for (const colorScheme of ["light", "dark"]) {
      await page.emulateMedia({ colorScheme });
      await page.waitForTimeout(200);
      found.push(...await violations(colorScheme));
      await button(page, "All settings").click();
      found.push(...await violations(`${colorScheme}, settings`));
      await page.keyboard.press("Escape");
      await button(page, "Grid").click();
      found.push(...await violations(`${colorScheme}, grid`));
      await page.keyboard.press("Escape");
      await page.setViewportSize({ width: 360, height: 740 });
      await page.waitForTimeout(200);
      found.push(...await violations(`${colorScheme}, phone`));
      assertEquals(await page.evaluate("document.documentElement.scrollWidth"), 360);
      await page.setViewportSize({ width: 1440, height: 900 });
    }
    assertEquals(found, []);
  });

  await t.step("a grid is drawn, stopped and saved as one sheet", async () => {
    await page.getByRole("spinbutton", { name: "Steps" }).fill("1");
    await button(page, "Grid").click();
    const dialog = page.getByRole("dialog");
    await dialog.getByRole("radio", { name: "Seeds" }).check({ force: true });
    await dialog.getByRole("button", { name: "Draw grid" }).click();
    await dialog.getByText(/^([2-9]|1\d) of 14$/).waitFor();
    await dialog.getByRole("button", { name: "Stop grid" }).click();
    const { bytes } = await saved(page, () => dialog.getByRole("button", { name: "Save grid" }).click());
    const view = new DataView(bytes.buffer, bytes.byteOffset);
    assertEquals(new TextDecoder("latin1").decode(bytes.subarray(1, 4)), "PNG");
    assert(view.getUint32(16) > 7 * 256 && view.getUint32(20) > 2 * 256, "the sheet has all cells");
    await page.keyboard.press("Escape");
  });

  await t.step("a link and a reload: the link restores the state, history is still there", async () => {
    await page.getByRole("spinbutton", { name: "Seed" }).fill("18446744073709551615");
    await page.getByRole("slider", { name: "Strength" }).fill("0.75");
    await button(page, `Preserve ${cat}`).click({ force: true });
    await button(page, "Copy link").click();
    await page.getByText("Link copied").waitFor();
    const link = await page.evaluate("navigator.clipboard.readText()");
    assert(link.startsWith(`${origin}/#1=`), link);
    await page.getByRole("spinbutton", { name: "Seed" }).fill("3");
    await page.goto("about:blank");
    await page.goto(link);
    const value = (name: string) => page.getByRole("slider", { name }).inputValue();
    assertEquals(await page.getByRole("spinbutton", { name: "Seed" }).inputValue(), "18446744073709551615");
    assertEquals(await value("Strength"), "0.75");
    assertEquals(await page.getByRole("article").count(), 3);
    assertEquals(await button(page, `Preserve ${cat}`).getAttribute("aria-pressed"), "true");
    await history(page).nth(1).waitFor();
    await history(page).first().getByRole("button").click();
    assert((await colors(page, `${roses}, before`)).mean[0] > 0);
    await button(page, "Clear").click();
    await button(page, "Bring back").click();
    assertEquals(await history(page).count(), 2);
  });

  const opensOffered = async (name: string) => {
    await page.waitForFunction(() => document.querySelector("dialog .fits") !== null);
    await page.getByRole("dialog").getByRole("button", { name: "Open this model" }).click();
    await page.getByRole("button", { name: /^Model:/ }).filter({ hasText: name }).waitFor();
    await status(page, /edited in \d/);
  };

  await t.step("a chosen model folder is measured first, then opened", async () => {
    await page.getByRole("button", { name: /^Model:/ }).click();
    await page.getByLabel("Choose a folder").setInputFiles(pocket);
    await opensOffered("pocket");
  });

  await t.step("a dropped model folder is measured first, then opened: SDXL with its second prompts", async () => {
    await dropPath(page, `${goldens}/sdxl-mini`);
    await opensOffered("sdxl-mini");
    await button(page, "All settings").click();
    await page.getByRole("textbox", { name: "Second prompt" }).fill("in oil");
    await page.getByRole("textbox", { name: "Second negative prompt" }).waitFor();
    await page.keyboard.press("Escape");
    await button(page, "More about edit 1").click();
    await page.getByRole("switch", { name: "Pooled embedding too" }).check();
    await status(page, /edited in \d/);
    // For the next model.
    await page.getByRole("switch", { name: "Pooled embedding too" }).uncheck();
    await page.keyboard.press("Escape");
    await status(page, /edited in \d/);
  });

  await t.step("a dropped folder that is no model explains itself", async () => {
    await dropPath(page, `${goldens}/faults`);
    assertMatch(await page.getByRole("alert").innerText(), /faults/);
    await page.getByRole("button", { name: /^Close: / }).click();
  });

  await t.step("the visitor can draw on the server that serves the page", async () => {
    await button(page, "All settings").click();
    await page.getByRole("combobox", { name: "Draws in" }).selectOption("server");
    await page.getByText(/on the server\./).waitFor();
    await page.keyboard.press("Escape");
    await status(page, /edited in \d/);
  });

  await t.step("all requests went to the page's own origin, and no error was left uncaught", () => {
    const foreign = requests.filter((url) => !url.startsWith(`${origin}/`) && !/^(blob:|data:|about:)/.test(url));
    assertEquals(foreign, []);
    assertEquals(errors, []);
  });
});

Deno.test("without WebGPU and without a server, the page says which browsers have it", async () => {
  await using browser = await openBrowser();
  const before = "delete Navigator.prototype.gpu";
  await using visit = await browser.visit({ files, before, isStatic: true });
  const alert = visit.page.getByRole("alert");
  await alert.waitFor();
  assertMatch(await alert.innerText(), /no WebGPU[\s\S]*Chrome and Edge/);
  assertEquals(await button(visit.page, "Draw").isDisabled(), true);
  await visit.page.getByRole("textbox", { name: "Source prompt" }).fill("still usable");
});

Deno.test("without WebGPU, the server that serves the page draws what the browser draws", async () => {
  const recipe = {
    ...defaultRecipe,
    prompts: defaultRecipe.prompts.slice(0, 1),
    settings: { ...defaultRecipe.settings, steps: 4 },
  };
  const fragment = await linkFragment({ recipe, model: "" });
  await using browser = await openBrowser();
  await using visit = await browser.visit({ files, before: "delete Navigator.prototype.gpu", fragment });
  const { page } = visit;
  assertMatch(await status(page, /edited in \d+ ms/), /Nothing is drawn yet/);
  assertMatch(await page.locator("body").innerText(), /no WebGPU[\s\S]*on the server[\s\S]*Chrome and Edge/);
  await button(page, "Draw").click();
  await status(page, /Pictures are up to date/);
  const { bytes } = await saved(page, () => button(page, "Save picture").click());
  assertSamePicture(bytes, savedByWorker!);
});

Deno.test("a first visit to the static build loads at most 9 MB, and draws with the packed model", async () => {
  const built = await lowered(await builtFiles());
  for (const [path, content] of built) {
    const usesUsing = path.endsWith(".js") &&
      /[;{}(\s](await )?using\s+[\w$]+\s*=/.test(new TextDecoder().decode(content));
    assert(!usesUsing, `${path} has using: Safari cannot read it`);
  }
  const recipe = {
    ...defaultRecipe,
    prompts: defaultRecipe.prompts.slice(0, 1),
    settings: { ...defaultRecipe.settings, steps: 1 },
  };
  const fragment = await linkFragment({ recipe, model: "" });
  await using browser = await openBrowser();
  const before = "delete globalThis.DisposableStack; delete globalThis.SuppressedError";
  await using visit = await browser.visit({ files: built, isStatic: true, fragment, before });
  const { page, origin, requests, errors } = visit;
  await status(page, /edited in \d+ ms/);
  await button(page, "Draw").click();
  await status(page, /Pictures are up to date/);
  console.log(`first visit: ${(visit.sentBytes() / 1e6).toFixed(2)} MB in ${requests.length} requests`);
  assert(visit.sentBytes() > 1e6 && visit.sentBytes() <= FIRST_VISIT, `${visit.sentBytes()} bytes`);
  const ofModel = requests.filter((url) => url.startsWith(`${origin}${base}pocket/`));
  assertEquals(ofModel.length, new Set(ofModel).size, "no file of the model is loaded twice");
  assertEquals(requests.filter((url) => !url.startsWith(`${origin}/`) && !/^(blob:|data:)/.test(url)), []);
  assertEquals(errors, []);
});
