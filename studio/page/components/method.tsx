/** The choice of an editor, and the settings that it alone has. @module */

import type { JSX } from "preact";
import { leftOut, methodDefaults, methodOf, methods } from "../../edit_methods.ts";
import type { EditMethod } from "../../painter.ts";
import * as actions from "../actions.ts";
import type { EditItem } from "../state.ts";
import { useStudio } from "./context.ts";
import { accepting, NumberDial } from "./dials.tsx";

/** Bounds of the numbers: far beyond what is useful. */
const [min, max] = [1e-6, 1e6];

/** Chooses the editor. */
export function MethodChoice({ edit, index }: { edit: EditItem; index: number }): JSX.Element {
  const { store } = useStudio();
  const { method } = methodOf(edit.spec);
  return (
    <select
      class="method"
      aria-label="Method"
      value={method}
      onChange={(event) => store.dispatch(actions.setMethod, index, event.currentTarget.value as EditMethod)}
    >
      {methods.map(({ method: other, label }) => (
        <option key={other} value={other} selected={other === method}>{label}</option>
      ))}
    </select>
  );
}

/** The settings of the editor, where it has its own. */
export function MethodSettings({ edit, index }: { edit: EditItem; index: number }): JSX.Element | null {
  const { store } = useStudio();
  const { method, preserve } = edit.spec;
  if (method === undefined) return null;
  const dial = (key: keyof typeof methodDefaults, label: string) => (
    <NumberDial
      label={label}
      value={String(edit.spec[key] ?? methodDefaults[key])}
      step="any"
      min={min}
      max={max}
      accept={accepting(min, max, false, (value) => store.dispatch(actions.setEdit, index, { [key]: value }, key))}
    />
  );
  const omitted = leftOut(edit.spec);
  const count = preserve.length - omitted.length;
  const locked = count === 1 ? "1 is locked" : `${count === 0 ? "None" : count} are locked`;
  return (
    <div class="method-settings" role="group" aria-label="Settings of the method">
      {method === "uce"
        ? (
          <>
            {dial("eraseScale", "Edit weight")}
            {dial("preserveScale", "Lock weight")}
          </>
        )
        : dial("threshold", "Threshold")}
      <p>
        {methodOf(edit.spec).use} {locked}.
        {omitted.length > 0 && (
          <>
            {" "}
            Left out, as {omitted.length === 1 ? "it contains" : "they contain"} the words of a source:{" "}
            {omitted.map((text) => `“${text}”`).join(", ")}.
          </>
        )}
      </p>
    </div>
  );
}
