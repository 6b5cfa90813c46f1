import { assertEquals, assertRejects } from "@std/assert";
import { inputBytes, UnreadableInput } from "../../cli/input_bytes.ts";
import { readTextOf } from "../../cli/files.ts";
import { temporaryFolder } from "./running.ts";

const isUnix = Deno.build.os !== "windows";

async function makePipe(path: string): Promise<void> {
  assertEquals((await new Deno.Command("mkfifo", { args: [path] }).output()).code, 0);
}

Deno.test("a device is refused, and not read without end", { ignore: !isUnix }, async () => {
  for (const path of ["/dev/zero", "/dev/null"]) {
    await assertRejects(() => inputBytes(path), UnreadableInput, "it is a device");
  }
  await assertRejects(() => readTextOf("/dev/zero", "--prompts-file"), Error, 'Cannot read --prompts-file "/dev/zero"');
});

Deno.test("a pipe is read to its end, as process substitution gives it", { ignore: !isUnix }, async () => {
  await using folder = await temporaryFolder();
  const path = `${folder.path}/pipe`;
  await makePipe(path);
  const [bytes] = await Promise.all([inputBytes(path), Deno.writeTextFile(path, "a rose\n".repeat(20_000))]);
  assertEquals(bytes.length, 140_000);
});

Deno.test("a pipe into which nothing writes is refused after a while", { ignore: !isUnix }, async () => {
  await using folder = await temporaryFolder();
  const path = `${folder.path}/pipe`;
  await makePipe(path);
  await assertRejects(() => inputBytes(path, { pipeWaitMs: 20 }), UnreadableInput, "no program writes");
  await Deno.writeTextFile(path, ""); // lets the waiting system call return
});
