/** A button with a menu, which closes on a press elsewhere and on Escape. @module */

import type { ComponentChildren, JSX } from "preact";
import { useId, useRef } from "preact/hooks";
import { Icon, type IconName } from "./icons.tsx";

/** A button that opens a menu below itself, kept inside the window. */
export function Menu({ label, icon, text, class: style = "", children }: {
  label: string;
  icon: IconName;
  text?: string;
  class?: string;
  children: ComponentChildren;
}): JSX.Element {
  const id = useId();
  const button = useRef<HTMLButtonElement>(null);
  const menu = useRef<HTMLDivElement>(null);
  const place = () => {
    const from = button.current!.getBoundingClientRect();
    const { offsetWidth, offsetHeight } = menu.current!;
    const left = Math.max(8, Math.min(from.right - offsetWidth, innerWidth - offsetWidth - 8));
    const below = from.bottom + 4;
    const top = below + offsetHeight > innerHeight - 8 ? Math.max(8, from.top - offsetHeight - 4) : below;
    menu.current!.style.left = `${left}px`;
    menu.current!.style.top = `${top}px`;
  };
  return (
    <>
      <button
        ref={button}
        class={`btn ${text === undefined ? "square" : ""} ${style}`}
        type="button"
        aria-label={label}
        {...{ popovertarget: id }}
      >
        {text}
        <Icon name={icon} />
      </button>
      <div
        ref={menu}
        id={id}
        class="menu"
        role="group"
        aria-label={label}
        popover="auto"
        onToggle={(event) => event.newState === "open" && place()}
        onClick={(event) => (event.target as Element).closest("button") && event.currentTarget.hidePopover()}
      >
        {children}
      </div>
    </>
  );
}
