/** What a call returns, and what it warns about on the console. */
export interface Warned<T> {
  value: T;
  warnings: string[];
}

/** Collects the console's warnings of a call, in place of printing them. */
export function warningsOf<T>(call: () => T): Warned<T> {
  const { warn } = console;
  const warnings: string[] = [];
  console.warn = (...words: unknown[]) => void warnings.push(words.join(" "));
  try {
    return { value: call(), warnings };
  } finally {
    console.warn = warn;
  }
}

/** Keeps the console's warnings back until it is disposed. */
export function withoutWarnings(): Disposable {
  const { warn } = console;
  console.warn = () => {};
  return { [Symbol.dispose]: () => void (console.warn = warn) };
}

/** As {@linkcode warningsOf}, for a call that takes its time; no other may warn meanwhile. */
export async function warningsOfAsync<T>(call: () => Promise<T>): Promise<Warned<T>> {
  const { warn } = console;
  const warnings: string[] = [];
  console.warn = (...words: unknown[]) => void warnings.push(words.join(" "));
  try {
    return { value: await call(), warnings };
  } finally {
    console.warn = warn;
  }
}
