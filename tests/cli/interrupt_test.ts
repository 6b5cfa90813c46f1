import { assert, assertEquals } from "@std/assert";
import { decodePicture } from "../../pipeline/image/picture.ts";
import { goldens } from "../paths.ts";
import { temporaryFolder, textsIn } from "../pipeline/output/folders.ts";

/**
 * Runs a command in another process, and sends a signal when it has printed a line that contains
 * `when`.
 */
async function signaled(
  script: string,
  when: string,
  signal: Deno.Signal,
  args: string[] = [],
): Promise<{ code: number; err: string }> {
  await using folder = await temporaryFolder();
  const path = `${folder.path}/script.ts`;
  await Deno.writeTextFile(path, script);
  const child = new Deno.Command(Deno.execPath(), {
    args: ["run", "-q", "--allow-all", "--config", new URL("../../deno.json", import.meta.url).pathname, path, ...args],
    stdout: "null",
    stderr: "piped",
  }).spawn();
  let err = "", wasSent = false;
  for await (const text of child.stderr.pipeThrough(new TextDecoderStream())) {
    err += text;
    if (!wasSent && err.includes(when)) child.kill(signal);
    wasSent ||= err.includes(when);
  }
  return { code: (await child.status).code, err };
}

const at = (path: string) => new URL(`../../${path}`, import.meta.url).href;

/** A command line with one command, whose body is `body`. */
function commandLine(body: string): string {
  return `
    import { main } from ${JSON.stringify(at("cli/main.ts"))};
    import { defineCommand } from ${JSON.stringify(at("cli/command.ts"))};
    import { deferTermination, interruptSignal } from ${JSON.stringify(at("cli/interrupt.ts"))};
    import { writeKept } from ${JSON.stringify(at("cli/kept.ts"))};
    import { writeFileAtomically } from ${JSON.stringify(at("pipeline/output/file.ts"))};
    import { writeFolderAtomically } from ${JSON.stringify(at("pipeline/output/folder.ts"))};
    const wait = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
    const run = async () => { ${body} };
    const command = defineCommand({ name: "work", summary: "", usage: "", flags: {}, run });
    const table = [{ name: "work", summary: "", load: () => Promise.resolve({ command }) }];
    Deno.exit(await main(["work"], table));
  `;
}

const ends = [["SIGINT", 130], ["SIGTERM", 143], ["SIGHUP", 129]] as const;

Deno.test("a signal ends a command that does not handle it, undoes its writes and says what is kept", async () => {
  for (const [signal, expected] of ends) {
    await using folder = await temporaryFolder();
    await Deno.mkdir(`${folder.path}/model`);
    await Deno.writeTextFile(`${folder.path}/model/a`, "old");
    const { code, err } = await signaled(
      commandLine(`
        const folder = ${JSON.stringify(folder.path)};
        await writeKept(folder + "/done.txt", new TextEncoder().encode("done"));
        await writeFolderAtomically(folder + "/model", { overwrite: true }, async (model) => {
          await model.writeText("a", "new");
          await writeFileAtomically(folder + "/file", async (sink) => {
            await sink(new Uint8Array(10));
            console.error("in the middle");
            await wait(1e6);
          });
        });
      `),
      "in the middle",
      signal,
    );
    assertEquals(code, expected, err);
    assert(err.includes(`bluerose work: interrupted\nKept: ${folder.path}/done.txt\n`), err);
    assertEquals(textsIn(folder.path), { "done.txt": "done", "model/a": "old" });
  }
});

Deno.test("a write that ends soon after the signal is completed", async () => {
  await using folder = await temporaryFolder();
  const { code, err } = await signaled(
    commandLine(`
      await writeFileAtomically(${JSON.stringify(`${folder.path}/file`)}, async (sink) => {
        console.error("in the middle");
        await wait(300);
        await sink(new TextEncoder().encode("whole"));
      });
    `),
    "in the middle",
    "SIGTERM",
  );
  assertEquals(code, 143, err);
  assertEquals(textsIn(folder.path), { file: "whole" });
});

Deno.test("the abort signal reaches a command at once", async () => {
  const { code, err } = await signaled(
    commandLine(`
      const signal = interruptSignal();
      console.error("in the middle");
      while (!signal.aborted) await wait(10);
      console.error("told");
      signal.throwIfAborted();
    `),
    "in the middle",
    "SIGINT",
  );
  assertEquals(code, 130);
  assert(err.includes("told\nbluerose work: interrupted\n"), err);
});

Deno.test("SIGTERM, deferred, lets the command reach a good place and exits with 75; without more to do, with 0", async () => {
  for (const [more, expected] of [["termination.signal.throwIfAborted();", 75], ["", 0]] as const) {
    const { code, err } = await signaled(
      commandLine(`
        using termination = deferTermination();
        const signal = interruptSignal();
        termination.signal.throwIfAborted();
        console.error("in the middle");
        await wait(1800); // longer than the grace of other commands
        if (signal.aborted) throw new Error("aborted");
        console.error("batch is stored");
        ${more}
      `),
      "in the middle",
      "SIGTERM",
    );
    assertEquals(code, expected, err);
    assert(err.includes("batch is stored"), err);
  }
});

Deno.test("generate, interrupted, keeps the pictures that are finished", async () => {
  await using folder = await temporaryFolder();
  const flags = ["-m", `${goldens}/sd1-mini`, "-p", "a rose", "-b", "500", "--batch-size", "1", "--steps", "1"];
  const { code, err } = await signaled(
    `
      import { main } from ${JSON.stringify(at("cli/main.ts"))};
      console.log = (text) => console.error(text);
      Deno.exit(await main(Deno.args));
    `,
    "a_2.png",
    "SIGINT",
    ["generate", ...flags, "-o", `${folder.path}/a.png`],
  );
  assertEquals(code, 130, err);
  assert(err.includes("Kept: "), err);
  const names = [...Deno.readDirSync(folder.path)].map(({ name }) => name);
  assert(names.length >= 2 && names.length < 500 && names.every((name) => name.endsWith(".png")), names.join());
  for (const name of names) await decodePicture(await Deno.readFile(`${folder.path}/${name}`));
});
