/** `bluerose studio` as a process of its own, with the permissions of its task. */
import { assert, assertEquals, assertMatch } from "@std/assert";
import { linesOf } from "../../studio/painters/lines.ts";
import { repository } from "../paths.ts";
import { run } from "./running.ts";

Deno.test("bluerose studio serves the page and says where; Ctrl-C ends it", async () => {
  const process = new Deno.Command(Deno.execPath(), {
    args: ["run", "-q", "-P=studio", "--no-prompt", "cli/main.ts", "studio", "--port", "0", "--no-open"],
    cwd: repository,
    stdout: "piped",
    stderr: "null",
  }).spawn();
  let address: string | undefined;
  for await (const line of linesOf(process.stdout)) {
    address = /http:\/\/\S+/.exec(line)?.[0];
    break;
  }
  assertMatch(address ?? "", /^http:\/\/127\.0\.0\.1:\d+\/$/);
  const page = await (await fetch(address!)).text();
  const script = /src="([^"]+\.js)"/.exec(page)?.[1];
  for (const path of [script!, "worker.js", "style.css", "pocket/model_index.json", "api/facts"]) {
    const response = await fetch(new URL(path, address));
    assertEquals(response.status, 200, path);
    await response.body?.cancel();
  }
  process.kill("SIGINT");
  assertEquals((await process.status).code, 130);
});

Deno.test("bluerose studio explains a missing model and a busy port", async () => {
  const missing = await run("studio", "--no-open", "-m", "./no/such/model");
  assertEquals(missing.code, 1);
  assert(missing.err.includes("Cannot open the model ./no/such/model as there is no such folder or file"), missing.err);
  await using server = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen: () => {} }, () => new Response(""));
  const busy = await run("studio", "--no-open", "--port", String(server.addr.port));
  assertEquals(busy.code, 1);
  assert(busy.err.includes("the port is in use") && busy.err.includes("--port"), busy.err);
});
