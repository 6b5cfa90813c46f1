/** The page's head: model, undo and redo, save, link, light or dark. @module */

import type { JSX } from "preact";
import * as actions from "../actions.ts";
import { dialog, medium, narrow, useStudio } from "./context.ts";
import { Icon, Rose } from "./icons.tsx";
import { Menu } from "./menu.tsx";
import { Switch } from "./switch.tsx";

/** The page's head. */
export function Top(): JSX.Element {
  const { store, desk } = useStudio();
  const { past, future, model, loras, textInPictures } = store.state.value;
  const name = model.status === "open" ? model.facts.name : model.status === "opening" ? model.name : "no model";
  const details = model.status === "open"
    ? `${parametersText(model.facts.parameters)} parameters, ${placeOf(model.facts.device)}`
    : "";
  return (
    <header class="top">
      <div class="brand">
        <Rose />
        <h1>
          Blue Rose <span>studio</span>
        </h1>
      </div>
      <button class="btn model" type="button" onClick={() => dialog.value = "model"}>
        <span class="sr">Model:</span>
        <span class="name">{[name, ...loras].join(" + ")}</span>
        {!medium.value && <small>{details}</small>}
        <Icon name="down" />
      </button>
      <span class="spring" />
      {!narrow.value && (
        <>
          <button
            class="btn square"
            type="button"
            aria-label="Undo"
            title="Undo"
            disabled={past.length === 0}
            onClick={() => store.dispatch(actions.undo)}
          >
            <Icon name="undo" />
          </button>
          <button
            class="btn square"
            type="button"
            aria-label="Redo"
            title="Redo"
            disabled={future.length === 0}
            onClick={() => store.dispatch(actions.redo)}
          >
            <Icon name="redo" />
          </button>
          <span class="split">
            <button class="btn" type="button" onClick={() => desk.savePicture()}>
              <Icon name="save" />Save picture
            </button>
            <Menu label="More to save" icon="down">
              <button class="btn" type="button" onClick={() => desk.saveSheet()}>
                <Icon name="side" />Save sheet<small>PNG</small>
              </button>
              <label>
                <Switch
                  checked={textInPictures}
                  onChange={() => store.dispatch(actions.setTextInPictures, !textInPictures)}
                />
                Settings as text in the file
              </label>
            </Menu>
          </span>
        </>
      )}
      <button class="btn" type="button" aria-label="Copy link" onClick={() => desk.copyLink()}>
        <Icon name="link" />
        <span class="text">Copy link</span>
      </button>
      <button class="btn square" type="button" aria-label="Light or dark" title="Light or dark" onClick={switchTheme}>
        <Icon name="theme" />
      </button>
    </header>
  );
}

function parametersText(parameters: number): string {
  const [value, unit] = parameters >= 1e9 ? [parameters / 1e9, "G"] : [parameters / 1e6, "M"];
  return `${value < 10 ? Number(value.toFixed(1)) : Math.round(value)} ${unit}`;
}

/** Where a device is: the last part of its name for people. */
function placeOf(device: string): string {
  return device.split(", ").at(-1)!;
}

const themeKey = "bluerose-theme";

function switchTheme(): void {
  const root = document.documentElement;
  const dark = root.dataset.theme === undefined
    ? matchMedia("(prefers-color-scheme: dark)").matches
    : root.dataset.theme === "dark";
  root.dataset.theme = dark ? "light" : "dark";
  try {
    localStorage.setItem(themeKey, root.dataset.theme);
  } catch {
    // Without storage the choice lasts for this visit.
  }
}

/** Brings back the choice of an earlier visit. */
export function restoreTheme(): void {
  try {
    const theme = localStorage.getItem(themeKey);
    if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
  } catch {
    // Without storage the system decides.
  }
}
