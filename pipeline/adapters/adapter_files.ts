/**
 * The files that the adapters of models were read from. Nothing is to be written over them: they
 * are in memory, so that writing would work, and lose them.
 */

const known = new WeakMap<object, Map<string, string>>();

/**
 * Remembers the file of an adapter.
 *
 * @param model a model that it adapts
 * @param adapter its name among the model's adapters, with its kind
 */
export function rememberFile(model: object, adapter: string, file: string): void {
  const files = known.get(model) ?? new Map<string, string>();
  known.set(model, files.set(adapter, file));
}

/** Forgets the file of an adapter that was taken away. */
export function forgetFile(model: object, adapter: string): void {
  known.get(model)?.delete(adapter);
}

/** The files of all adapters of a model. */
export function adapterFiles(model: unknown): readonly string[] {
  return typeof model === "object" && model !== null ? [...known.get(model)?.values() ?? []] : [];
}
