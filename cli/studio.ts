import { directoryTree, fileSource } from "../pipeline/checkpoint/source/disk.ts";
import { inspectFile, inspectFolder, type Inspection, problemsOf } from "../pipeline/inspection.ts";
import { infoAt } from "../pipeline/output/paths.ts";
import { CheckpointError } from "../pipeline/errors.ts";
import { bundlePage } from "../studio/server/bundle.ts";
import { isLoopback, serveStudio } from "../studio/server/serve.ts";
import { ArgumentError } from "./argument_error.ts";
import { type Command, defineCommand } from "./command.ts";
import { embeddedModel, resolveModel } from "./embedded_model.ts";
import { interruptSignal } from "./interrupt.ts";
import { requireAccess, requireListening } from "./permissions.ts";
import { note, say, sayJson } from "./printer.ts";

/** `bluerose studio`: serves the studio's page, and draws for it on this machine's device. */
export const command: Command = defineCommand({
  name: "studio",
  summary: "open a page on which edits are made and seen at once",
  usage: "[flags]",
  details:
    "Serves the studio on this machine and opens it in the browser. The page draws in the browser, where that has WebGPU, " +
    "and otherwise on this machine's device. Ctrl-C ends it.",
  flags: {
    model: {
      kind: "text",
      alias: "m",
      placeholder: "MODEL",
      group: "Model",
      defaultText: "the embedded model",
      help: "model to draw with on this machine's device: a folder, a .safetensors file, or OWNER/NAME on the hub",
    },
    port: {
      kind: "whole",
      default: 8642,
      min: 0,
      max: 65535,
      placeholder: "N",
      group: "Server",
      help: "port to listen on; 0 takes a free one",
    },
    host: {
      kind: "text",
      default: "127.0.0.1",
      placeholder: "ADDRESS",
      group: "Server",
      help: "address to listen on. Others than this machine need the token that is printed with the address; " +
        "0.0.0.0 listens on all",
    },
    open: { kind: "switch", default: true, group: "Server", help: "open the page in the browser" },
  },
  examples: [
    { line: "studio", says: "the embedded model" },
    { line: "studio -m models/sd15 --no-open", says: "a model on this machine's device" },
    { line: "studio --host 0.0.0.0", says: "for other machines of the network, with a token" },
  ],
  async run({ model, port, host, open }) {
    if (model !== undefined) await checkModel(model);
    if (host === "") throw new ArgumentError("Cannot listen on an empty --host", { argument: "--host" });
    if (import.meta.dirname) requireAccess(`${import.meta.dirname}/..`, { kind: "read", purpose: "bundle the page" });
    requireListening(host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`, "serve the page");
    note("Bundling the page");
    await using server = serveStudio({
      page: await bundlePage(),
      pocket: await resolveModel(embeddedModel),
      model: model && await resolveModel(model),
      port,
      hostname: host,
    });
    say(`Studio: ${server.address}`);
    if (!isLoopback(host)) {
      note("Whoever has this address can draw on this machine. Traffic is not encrypted: use it in networks you trust");
    }
    sayJson({ address: server.address });
    if (open) await openBrowser(server.address);
    const signal = interruptSignal();
    await Promise.race([
      server.finished,
      new Promise<void>((resolve) => signal.addEventListener("abort", () => resolve(), { once: true })),
    ]);
  },
});

/**
 * Checks a folder or a file by its headers. Models of the hub are read when a page opens them.
 *
 * @throws {CheckpointError} for one that is missing or would not load
 */
async function checkModel(model: string): Promise<void> {
  const path = await resolveModel(model);
  const info = await infoAt(path);
  if (!info?.isDirectory) {
    if (info !== undefined) return refuseProblems(model, await inspectFile(await fileSource(path)));
    if (/^[^/\\.]+\/[^/\\]+$/.test(path)) return;
    throw new CheckpointError(`Cannot open the model ${model} as there is no such folder or file: see --model`, {
      source: model,
    });
  }
  refuseProblems(model, await inspectFolder(await directoryTree(path)));
}

function refuseProblems(model: string, inspection: Inspection): void {
  const [problem] = problemsOf(inspection);
  if (problem !== undefined) throw new CheckpointError(`Cannot open the model ${model}: ${problem}`, { source: model });
}

/** Opens an address in the user's browser, where that is possible and permitted. */
async function openBrowser(address: string): Promise<void> {
  const [program, ...args] = Deno.build.os === "windows"
    ? ["explorer", address]
    : [Deno.build.os === "darwin" ? "open" : "xdg-open", address];
  try {
    const { success } = await new Deno.Command(program, { args, stdout: "null", stderr: "null" }).output();
    if (success || Deno.build.os === "windows") return;
  } catch {
    // There is no browser to open, or no permission to.
  }
  note("No browser could be opened: open the address yourself");
}
