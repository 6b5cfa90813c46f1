/** Files out of what a browser drops or lets choose. @module */

/** A file and its path inside what was dropped. */
export interface DroppedFile {
  readonly path: string;
  readonly file: File;
}

/** What was dropped: its name, its files, and a handle where the browser gives one. */
export interface Dropped {
  readonly name: string;
  readonly files: readonly DroppedFile[];
  readonly handle?: FileSystemHandle;
}

/** What Chrome and Edge have beyond the types. */
type ItemWithHandle = DataTransferItem & { getAsFileSystemHandle?: () => Promise<FileSystemHandle | null> };

/** More files than any model folder has; a home folder dropped by mistake is not read through. */
const maxFiles = 2000;

/** Reads a drop. Call it in the event's handler: browsers take the items away after that. */
export async function filesOfDrop(transfer: DataTransfer): Promise<Dropped> {
  const items = [...transfer.items].filter(({ kind }) => kind === "file");
  const handles = Promise.all(items.map((item) => (item as ItemWithHandle).getAsFileSystemHandle?.() ?? null))
    .catch(() => []);
  // Files that a script made have no entries.
  const sources = items.flatMap((item) => item.webkitGetAsEntry() ?? item.getAsFile() ?? []);
  const files = (await Promise.all(
    sources.map((source) => source instanceof File ? [{ path: source.name, file: source }] : filesOfEntry(source, "")),
  )).flat();
  const [handle, ...others] = await handles;
  const [first] = sources;
  const { name } = first ?? { name: "" };
  // A folder's own name is not part of its files' paths.
  const isFolder = sources.length === 1 && !(first instanceof File) && first.isDirectory;
  const inside = isFolder ? files.map(({ path, file }) => ({ path: path.slice(name.length + 1), file })) : files;
  return { name, files: inside, ...(handle && others.length === 0 ? { handle } : {}) };
}

/** The files of an input element; those of a chosen folder without the folder's name. */
export function filesOfInput(list: FileList): Dropped {
  const files = [...list].map((file) => ({ path: file.webkitRelativePath || file.name, file }));
  const name = files[0]?.path.split("/")[0] ?? "";
  const inside = files.map(({ path, file }) => ({
    path: path.includes("/") ? path.slice(name.length + 1) : path,
    file,
  }));
  return { name, files: inside };
}

/** The files of a handle that the browser remembers. Asks the visitor for permission. */
export async function filesOfHandle(handle: FileSystemHandle): Promise<DroppedFile[]> {
  const asking = handle as FileSystemHandle & { requestPermission?: (options: { mode: "read" }) => Promise<string> };
  if (await asking.requestPermission?.({ mode: "read" }) === "denied") {
    throw new Error("The browser did not allow this page to read it");
  }
  if (handle.kind === "file") {
    const file = await (handle as FileSystemFileHandle).getFile();
    return [{ path: file.name, file }];
  }
  return await filesOfFolder(handle as FileSystemDirectoryHandle, "");
}

async function filesOfFolder(folder: FileSystemDirectoryHandle, prefix: string): Promise<DroppedFile[]> {
  const files: DroppedFile[] = [];
  const entries = (folder as unknown as { values(): AsyncIterable<FileSystemHandle> }).values();
  for await (const entry of entries) {
    const path = prefix + entry.name;
    if (entry.kind === "directory") files.push(...await filesOfFolder(entry as FileSystemDirectoryHandle, `${path}/`));
    else files.push({ path, file: await (entry as FileSystemFileHandle).getFile() });
    if (files.length > maxFiles) throw new RangeError(tooMany);
  }
  return files;
}

const tooMany = `It holds more than ${maxFiles} files. Choose the folder of one model.`;

async function filesOfEntry(entry: FileSystemEntry, prefix: string): Promise<DroppedFile[]> {
  const path = prefix + entry.name;
  if (entry.isFile) {
    const file = await new Promise<File>((resolve, reject) => (entry as FileSystemFileEntry).file(resolve, reject));
    return [{ path, file }];
  }
  const reader = (entry as FileSystemDirectoryEntry).createReader();
  const files: DroppedFile[] = [];
  while (true) { // a reader gives some hundred entries at a time
    const entries = await new Promise<FileSystemEntry[]>((resolve, reject) => reader.readEntries(resolve, reject));
    if (entries.length === 0) return files;
    files.push(...(await Promise.all(entries.map((entry) => filesOfEntry(entry, `${path}/`)))).flat());
    if (files.length > maxFiles) throw new RangeError(tooMany);
  }
}
