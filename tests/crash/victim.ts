/**
 * A process that kills itself, as by SIGKILL, before the N-th change that it makes to a disk. N may
 * count one kind of changes only, as in rename=2.
 *
 *     victim.ts N file PATH TEXT
 *     victim.ts N folder PATH TEXT
 *     victim.ts N append PATH TEXT
 *     victim.ts N bluerose ARGUMENT…
 *
 * @module
 */
import { AppendedFile } from "../../pipeline/output/append.ts";
import { beforeChange } from "../../pipeline/output/disk.ts";
import { writeText } from "../../pipeline/output/file.ts";
import { writeModel } from "./crash.ts";

const [when, what, ...args] = Deno.args;
const [, kind, count] = /^(?:(\w+)=)?(\d+)$/.exec(when)!;
let changes = 0;
beforeChange.hook = (change) => {
  if (kind !== undefined && change !== kind) return;
  if (++changes === Number(count)) Deno.kill(Deno.pid, "SIGKILL");
};
const [path, text] = args;
switch (what) {
  case "file":
    await writeText(path, text);
    break;
  case "folder":
    await writeModel(path, text);
    break;
  case "append": {
    await using file = await AppendedFile.open(path, (bytes) => bytes.lastIndexOf(10) + 1);
    await file.append(`${text}\n`);
    break;
  }
  case "bluerose": {
    // It takes longer to load than the rest to run.
    const { main } = await import("../../cli/main.ts");
    Deno.exit(await main(args));
  }
}
