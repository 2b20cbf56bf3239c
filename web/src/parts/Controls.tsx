/** What one does during a call: mute or hold to talk, and hang up. */

import { useEffect, useRef } from "react";

import type { Call } from "../call/call.ts";
import { pressed, released, withMuted } from "../call/push_to_talk.ts";
import type { CallView } from "../call/view.ts";
import { Icon } from "./Icon.tsx";

export function Controls({ call, view }: { call: Call; view: CallView }) {
  const first = useRef<HTMLButtonElement>(null);
  const { pushToTalk } = view.gate;

  useEffect(() => {
    // The button that began the call is gone; the keyboard goes on here, where Space doesn't hang up.
    const lost = document.activeElement === document.body || document.activeElement === null;
    if (lost) first.current?.focus({ preventScroll: true });
  }, [pushToTalk]);

  return (
    <fieldset className="controls" aria-label="Call controls">
      {pushToTalk ? <Talk call={call} view={view} button={first} /> : <Mute call={call} view={view} button={first} />}
      <button type="button" className="control stop" data-testid="stop" aria-label="End the call" onClick={() => call.stop()}>
        <Icon name="end" />
        <span>End</span>
      </button>
    </fieldset>
  );
}

interface Props {
  readonly call: Call;
  readonly view: CallView;
  readonly button: React.RefObject<HTMLButtonElement | null>;
}

function Mute({ call, view, button }: Props) {
  const { muted } = view.gate;
  return (
    <button
      ref={button}
      type="button"
      className="control mute"
      data-testid="mute"
      data-muted={muted}
      aria-keyshortcuts="M"
      onClick={() => call.gate((now) => withMuted(now, !muted))}
    >
      <Icon name={muted ? "muted" : "microphone"} />
      <span>{muted ? "Unmute" : "Mute"}</span>
    </button>
  );
}

/** Held by pointer or by key; Space held elsewhere on the page is use_shortcuts.ts's. */
function Talk({ call, view, button }: Props) {
  const hold = (what: "pointer" | "key") => call.gate((now) => pressed(now, what));
  const release = (what: "pointer" | "key") => call.gate((now, at) => released(now, what, at));
  const latched = view.gate.held.includes("latch");
  return (
    <button
      ref={button}
      type="button"
      className="control talk"
      data-testid="talk"
      data-open={view.open}
      aria-keyshortcuts="Space"
      aria-label={latched ? "Stop talking" : "Hold to talk"}
      onPointerDown={(event) => {
        event.currentTarget.setPointerCapture(event.pointerId);
        hold("pointer");
      }}
      onPointerUp={() => release("pointer")}
      onPointerCancel={() => release("pointer")}
      onLostPointerCapture={() => release("pointer")}
      onContextMenu={(event) => event.preventDefault()}
      onKeyDown={(event) => {
        if (event.key !== "Enter") return;
        event.preventDefault();
        hold("key");
      }}
      onKeyUp={(event) => {
        if (event.key === "Enter") release("key");
      }}
      onBlur={() => release("key")}
      onClick={(event) => {
        // Neither pointer nor key: a screen reader's or a switch's press, which can't be held.
        if (event.detail !== 0) return;
        call.gate((now, at) => (now.held.includes("latch") ? released(now, "latch", at) : pressed(now, "latch")));
      }}
    >
      <Icon name={view.open ? "microphone" : "muted"} />
      <span>{view.open ? "You're heard" : "Hold to talk"}</span>
    </button>
  );
}
