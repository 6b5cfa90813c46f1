/**
 * Bundles the page's script and serves the page and the model at http://127.0.0.1:8000.
 *
 *     deno run --allow-read --allow-write --allow-run=deno --allow-net=127.0.0.1 \
 *       examples/browser/serve.ts
 *
 * @module
 */
const model = new URL("../../models/pocket/", import.meta.url);
const bundled = await Deno.makeTempDir();

const { success } = await new Deno.Command("deno", {
  args: [
    ...["bundle", "--quiet", "--platform", "browser", "--code-splitting", "--outdir", bundled],
    new URL("main.ts", import.meta.url).pathname,
  ],
  cwd: new URL("../../", import.meta.url), // where deno.json names the package
}).output();
if (!success) Deno.exit(1);

Deno.serve({ hostname: "127.0.0.1", port: 8000 }, async ({ url }) => {
  const { pathname } = new URL(url);
  const html = { headers: { "content-type": "text/html" } };
  if (pathname === "/") return new Response(await Deno.readFile(new URL("index.html", import.meta.url)), html);
  const file = pathname.startsWith("/model/") ? new URL(pathname.slice(7), model) : `${bundled}${pathname}`;
  const type = pathname.endsWith(".js") ? "text/javascript" : "application/octet-stream";
  return await Deno.readFile(file).then(
    (bytes) => new Response(bytes, { headers: { "content-type": type } }),
    () => new Response("not found", { status: 404 }),
  );
});
