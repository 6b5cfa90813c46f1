/** The library as one file for browsers: `deno bundle --platform browser mod.ts`. */
import { assert, assertEquals } from "@std/assert";
import { findChromium } from "../../bench/measure/chromium.ts";

const chromiumPath = await findChromium();
const mod = new URL("../../mod.ts", import.meta.url);

const { success, errors, outputFiles } = await Deno.bundle({
  entrypoints: [mod.pathname],
  outputDir: "/bundle", // nothing is written
  platform: "browser",
  minify: true,
  write: false,
});
const script = outputFiles?.[0]?.text() ?? "";

Deno.test("the library is one file that imports nothing", () => {
  assertEquals([success, errors], [true, []]);
  assertEquals(outputFiles!.length, 1);
  const imports = [...script.matchAll(/(?:^|[;}\s])import\s*(?:[\w{},*$ ]*from\s*)?["']([^"']+)["']/g)];
  assertEquals(imports.map(([, specifier]) => specifier), []);
  assert(!script.includes('"node:'), "no module of Node");
});

Deno.test({
  name: `the one file loads in Chromium, with all of its exports${
    chromiumPath ? "" : " [skipped: no Chromium is installed]"
  }`,
  ignore: chromiumPath === undefined,
  async fn() {
    const page = `<!doctype html><title>-</title><script type="module">
      import * as library from "/mod.js";
      document.body.textContent = Object.keys(library).sort().join(" ");
    </script>`;
    await using server = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen: () => {} }, ({ url }) => {
      const isScript = new URL(url).pathname === "/mod.js";
      return new Response(isScript ? script : page, {
        headers: { "content-type": isScript ? "text/javascript" : "text/html" },
      });
    });
    const profile = await Deno.makeTempDir();
    const { stdout } = await new Deno.Command(chromiumPath!, {
      args: [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        `--user-data-dir=${profile}`,
        "--virtual-time-budget=20000",
        "--dump-dom",
        `http://127.0.0.1:${server.addr.port}/`,
      ],
      stderr: "null",
    }).output();
    await Deno.remove(profile, { recursive: true });
    const body = /<body>([^<]*)/.exec(new TextDecoder().decode(stdout))?.[1].trim();
    assertEquals(body, Object.keys(await import(mod.href)).sort().join(" "));
  },
});
