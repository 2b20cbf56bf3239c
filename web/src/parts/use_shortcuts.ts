/** Keys that work anywhere on the page: M mutes, Space held talks, ? helps. */

import { useEffect } from "react";

import type { Call } from "../call/call.ts";
import { letGo, pressed, released, withMuted } from "../call/push_to_talk.ts";
import { underWay } from "../call/view.ts";
import * as stored from "../stored.ts";

export function useShortcuts(call: Call, onHelp: () => void): void {
  useEffect(() => {
    const running = () => underWay(call.snapshot().phase);
    const onDown = (event: KeyboardEvent) => {
      if (event.ctrlKey || event.metaKey || event.altKey || !stored.shortcuts.get()) return;
      if (takesLetters(event.target) || document.querySelector("dialog[open]")) return;
      if (event.key === "?") onHelp();
      else if (event.key.toLowerCase() === "m" && running() && !event.repeat) {
        call.gate((now) => withMuted(now, !now.muted));
      } else if (event.key === " " && running() && call.snapshot().gate.pushToTalk && !wantsSpace(event.target)) {
        event.preventDefault(); // neither scroll nor press the button that was clicked last
        call.gate((now) => pressed(now, "key"));
      } else return;
      event.stopPropagation();
    };
    const onUp = (event: KeyboardEvent) => {
      if (event.key !== " " || !call.snapshot().gate.held.includes("key")) return;
      event.preventDefault();
      call.gate((now, at) => released(now, "key", at));
    };
    const onAway = () => call.gate(letGo);
    document.addEventListener("keydown", onDown);
    document.addEventListener("keyup", onUp);
    window.addEventListener("blur", onAway);
    return () => {
      document.removeEventListener("keydown", onDown);
      document.removeEventListener("keyup", onUp);
      window.removeEventListener("blur", onAway);
    };
  }, [call, onHelp]);
}

function takesLetters(target: EventTarget | null): boolean {
  return target instanceof HTMLElement && target.closest("input:not([type=radio], [type=checkbox]), textarea, select") !== null;
}

/** Whether Space means something else there: a control that the keyboard has gone to, but not one merely clicked. */
function wantsSpace(target: EventTarget | null): boolean {
  if (!(target instanceof HTMLElement)) return false;
  const control = target.closest("button, summary, a, input");
  return control !== null && control.matches(":focus-visible") && !control.matches("[data-testid=talk]");
}
