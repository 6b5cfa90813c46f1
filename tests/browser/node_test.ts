/** The one-file bundle in Node 24 or later, which `BLUEROSE_NODE` names or the path finds. */
import { assertEquals } from "@std/assert";

const root = new URL("../../", import.meta.url);
const node = Deno.env.get("BLUEROSE_NODE") ?? "node";

async function versionOf(program: string): Promise<number> {
  try {
    const { stdout } = await new Deno.Command(program, { args: ["--version"] }).output();
    return Number(/^v(\d+)/.exec(new TextDecoder().decode(stdout))?.[1] ?? 0);
  } catch {
    return 0;
  }
}

const hasNode = await versionOf(node) >= 24;

Deno.test({
  name: `Node reads paths and file URLs, and says what is missing${
    hasNode ? "" : " [skipped: no Node 24 is installed]"
  }`,
  ignore: !hasNode,
  async fn() {
    const { outputFiles } = await Deno.bundle({
      entrypoints: [new URL("mod.ts", root).pathname],
      outputDir: "/bundle", // nothing is written
      platform: "browser",
      write: false,
    });
    const folder = await Deno.makeTempDir();
    await Deno.writeTextFile(`${folder}/bluerose.mjs`, outputFiles![0].text());
    const model = new URL("models/pocket/", root);
    await Deno.writeTextFile(
      `${folder}/program.mjs`,
      `
      const { CLIPTokenizer, DDIMScheduler } = await import("./bluerose.mjs");
      const say = (value) => console.log(JSON.stringify(value));
      const model = ${JSON.stringify(model.pathname)};
      say((await CLIPTokenizer.fromPretrained(model + "tokenizer")).encode("A pack of roses"));
      const scheduler = await DDIMScheduler.fromPretrained(new URL(${
        JSON.stringify(model.href)
      }), { subfolder: "scheduler" });
      say(scheduler.constructor.name.length > 0);
      await CLIPTokenizer.fromPretrained(model + "tokenzier").catch(({ message }) => say(message.includes("did you mean")));
      { using stack = new DisposableStack(); stack.defer(() => say("disposed")); }
    `,
    );
    const { stdout, stderr } = await new Deno.Command(node, { args: [`${folder}/program.mjs`] }).output();
    await Deno.remove(folder, { recursive: true });
    const lines = new TextDecoder().decode(stdout).trim().split("\n").map((line) => line && JSON.parse(line));
    assertEquals(lines, [[651, 320, 577, 512, 633, 652], true, true, "disposed"], new TextDecoder().decode(stderr));
  },
});
