import { assert, assertEquals } from "@std/assert";
import { commandTable } from "../../cli/main.ts";
import { prepareInputs, type Writer, writers } from "../crash/writers.ts";
import { run, temporaryFolder } from "./running.ts";

/** Places that the system refuses, by the code of its error, or that Deno refuses. */
const places: Readonly<Record<string, (folder: string, extension: string) => string>> = {
  ENOTDIR: (folder, extension) => `${folder}/file/x${extension}`,
  ENAMETOOLONG: (folder, extension) => `${folder}/${"n".repeat(300)}${extension}`,
  EISDIR: (folder, extension) => `${folder}/folder${extension}`,
  NotCapable: (_, extension) => `/proc/bluerose/x${extension}`,
};

/** The outputs that a writer's flags name. */
function outputsOf({ args }: Writer): string[] {
  const names = new Set<string>();
  args!((name) => (names.add(name), name), (name) => name);
  return [...names];
}

Deno.test("each place that cannot be written is told before a model is opened, for each write flag", async (test) => {
  await using folder = await temporaryFolder();
  await prepareInputs(folder.path);
  await Deno.writeTextFile(`${folder.path}/file`, "");
  const { gpu } = navigator;
  const { requestAdapter } = gpu;
  let opened = 0;
  gpu.requestAdapter = () => {
    opened++;
    return Promise.resolve(null);
  };
  let tried = 0;
  try {
    for (const [index, writer] of writers.entries()) {
      if (writer.args === undefined) continue;
      for (const name of outputsOf(writer)) {
        const extension = /\.\w+$/.exec(name)?.[0] ?? "";
        for (const [code, placeOf] of Object.entries(places)) {
          // It is to be a folder, or the name of each picture is its own.
          if (code === "EISDIR" && (extension === "" || name.includes("{index}"))) continue;
          const place = placeOf(folder.path, extension);
          if (code === "EISDIR") await Deno.mkdir(place, { recursive: true });
          await test.step(`${writer.name}: ${name}, ${code}`, async () => {
            opened = 0;
            const good = (other: string) => `${folder.path}/${index}/${other}`;
            const args = writer.args!(
              (other) => other === name ? place : good(other),
              (input) => `${folder.path}/${input}`,
            );
            const { code: exit, err } = await run(...writer.name.split(" "), ...args);
            assertEquals(exit, 1, err);
            assert(err.includes(place.slice(0, place.length - extension.length)), err);
            assert(/: (OutputError|PermissionError): Cannot /.test(err) && !/\n\s+at /.test(err), err);
            assertEquals(opened, 0, err);
            tried++;
          });
        }
      }
    }
  } finally {
    gpu.requestAdapter = requestAdapter;
  }
  assert(tried > 4 * commandTable.length, `${tried}`);
});
