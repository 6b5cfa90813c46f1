/**
 * Reports the kind and contents of a folder or file, and the reasons why it would not load. Needs
 * no device and reads no weights.
 *
 * @module
 */

export { loraModelOf } from "./inspection/adapter.ts";
export { inspectFile } from "./inspection/file.ts";
export { inspectFolder } from "./inspection/folder.ts";
export { type Inspection, type PartInspection, problemsOf } from "./inspection/report.ts";
