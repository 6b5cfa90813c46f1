/** The whole page. @module */

import type { JSX } from "preact";
import { useEffect, useState } from "preact/hooks";
import * as actions from "../actions.ts";
import { filesOfDrop } from "../dropped_files.ts";
import { dialog, useStudio } from "./context.ts";
import { ModelSheet, OfferSheet, SettingsSheet } from "./dialogs.tsx";
import { Dock } from "./dock.tsx";
import { Edits } from "./edits.tsx";
import { GridSheet } from "./grid.tsx";
import { History } from "./history.tsx";
import { Icon } from "./icons.tsx";
import { ModelFailure, Notices } from "./notices.tsx";
import { Stage, UnderStage } from "./stage.tsx";
import { Threads } from "./threads.tsx";
import { Top } from "./top.tsx";

/** The whole page. */
export function App(): JSX.Element {
  useKeyboard();
  return (
    <>
      <svg width="0" height="0" class="defs" aria-hidden="true">
        <defs>
          <linearGradient id="before-after" x1="0" y1="0" x2="0" y2="1">
            <stop offset="0" stop-color="var(--red)" />
            <stop offset="1" stop-color="var(--blue-fill)" />
          </linearGradient>
        </defs>
      </svg>
      <Top />
      <main>
        <ModelFailure />
        <Threads />
        <Edits />
        <Stage />
        <UnderStage />
        <History />
      </main>
      <Notices />
      <Dock />
      {dialog.value === "settings" && <SettingsSheet />}
      {dialog.value === "model" && <ModelSheet />}
      {dialog.value === "grid" && <GridSheet />}
      <OfferSheet />
      <DropZone />
    </>
  );
}

/** Shortcuts carry Ctrl, so that typing is safe. */
function useKeyboard(): void {
  const { store, controller } = useStudio();
  useEffect(() => {
    const pressed = (event: KeyboardEvent) => {
      if (document.querySelector("dialog[open], :popover-open")) return;
      const command = event.ctrlKey || event.metaKey;
      const inField = (event.target as Element).matches?.(
        "input:not([type=range], [type=radio], [type=checkbox]), textarea",
      );
      if (event.key === "Enter" && command) {
        event.preventDefault();
        void controller.draw();
      } else if (event.key === "Escape" && store.now.jobs.length > 0) {
        void controller.stop();
      } else if (command && event.key.toLowerCase() === "z" && !inField) {
        event.preventDefault();
        store.dispatch(event.shiftKey ? actions.redo : actions.undo);
      }
    };
    addEventListener("keydown", pressed);
    return () => removeEventListener("keydown", pressed);
  }, []);
}

/** Takes files that are dropped anywhere on the page. */
function DropZone(): JSX.Element | null {
  const { desk } = useStudio();
  const [over, setOver] = useState(false);
  useEffect(() => {
    const holdsFiles = (event: DragEvent) => event.dataTransfer?.types.includes("Files") ?? false;
    const dragged = (event: DragEvent) => {
      if (!holdsFiles(event)) return;
      event.preventDefault();
      setOver(true);
    };
    const left = (event: DragEvent) => event.relatedTarget === null && setOver(false);
    const dropped = async (event: DragEvent) => {
      if (!holdsFiles(event)) return;
      event.preventDefault();
      setOver(false);
      dialog.value = undefined;
      try {
        const { name, files, handle } = await filesOfDrop(event.dataTransfer!);
        await desk.receive(name, files, handle);
      } catch (error) {
        desk.refuse("What was dropped", error);
      }
    };
    addEventListener("dragover", dragged);
    addEventListener("dragleave", left);
    addEventListener("drop", dropped);
    return () => {
      removeEventListener("dragover", dragged);
      removeEventListener("dragleave", left);
      removeEventListener("drop", dropped);
    };
  }, []);
  if (!over) return null;
  return (
    <div class="over-page">
      <div class="drop over">
        <Icon name="drop" />
        <strong>Let go to look at it</strong>
        <p>A picture of this page, an edit, a LoRA, or a model: nothing is used before you say so.</p>
      </div>
    </div>
  );
}
