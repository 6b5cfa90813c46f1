/** A switch, on or off. @module */

import type { JSX } from "preact";

/** A switch. `label` names it where no label element surrounds it. */
export function Switch(
  { checked, label, onChange }: { readonly checked: boolean; readonly label?: string; readonly onChange: () => void },
): JSX.Element {
  return (
    <input
      class="switch"
      type="checkbox"
      role="switch"
      checked={checked}
      aria-label={label}
      onChange={onChange}
    />
  );
}
