/** What every component can reach. @module */

import { createContext } from "preact";
import { useContext } from "preact/hooks";
import { type ReadonlySignal, signal } from "@preact/signals";
import type { Controller } from "../controller.ts";
import type { Desk } from "../desk.ts";
import type { Places } from "../places.ts";
import type { Store } from "../store.ts";

/** The page's parts. */
export interface Studio {
  readonly store: Store;
  readonly controller: Controller;
  readonly desk: Desk;
  readonly places: Places;
}

/** Carries the page's parts to the components. */
export const StudioContext = createContext<Studio | undefined>(undefined);

/** The page's parts. */
export function useStudio(): Studio {
  const studio = useContext(StudioContext);
  if (studio === undefined) throw new Error("Components stand inside a StudioContext");
  return studio;
}

/** Whether a media query holds, as a signal. */
function media(query: string): ReadonlySignal<boolean> {
  const list = matchMedia(query);
  const matches = signal(list.matches);
  list.addEventListener("change", () => matches.value = list.matches);
  return matches;
}

/** Phones: pictures come first, and rarely used controls move into sheets. */
export const narrow = media("(max-width: 860px)");

/** Small windows: fewer dials in the dock. */
export const medium = media("(max-width: 1180px)");

/** Which dialog is open, if any. */
export const dialog = signal<"settings" | "grid" | "model" | "dropped" | undefined>(undefined);
