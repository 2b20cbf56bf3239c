/** How to talk, and which keys do what. */

import { useState } from "react";

import * as stored from "../stored.ts";
import { Dialog } from "./Dialog.tsx";
import { Switch } from "./Switch.tsx";

const KEYS: readonly (readonly [keys: readonly string[], what: string])[] = [
  [["M"], "Mute or unmute the microphone"],
  [["Space"], "With push to talk: hold while you speak"],
  [["Tab"], "Go to the next control"],
  [["Enter"], "Press it, or send what you typed"],
  [["Esc"], "Close a dialog"],
  [["?"], "Show this help"],
];

export function HelpDialog({ onClose }: { onClose: () => void }) {
  const [shortcuts, setShortcuts] = useState(stored.shortcuts.get);
  return (
    <Dialog title="Help" testId="help-dialog" onClose={onClose}>
      <div className="settings">
        <p>
          Press <strong>Start talking</strong> and speak as you would with a person. Interrupt whenever you like; type
          when speaking doesn't suit. The conversation goes on where it stopped when you come back.
        </p>
        <dl className="keys">
          {KEYS.map(([keys, what]) => (
            <div key={what}>
              <dt>
                {keys.map((key) => (
                  <kbd key={key}>{key}</kbd>
                ))}
              </dt>
              <dd>{what}</dd>
            </div>
          ))}
        </dl>
        <Switch
          label="Single-key shortcuts"
          hint="M, Space and ? do something anywhere on the page."
          testId="shortcuts"
          on={shortcuts}
          onChange={(on) => {
            stored.shortcuts.set(on);
            setShortcuts(on);
          }}
        />
        <p className="quiet small">
          Under each answer's time you find where it went: from the end of your speech until you heard the first sound.
        </p>
      </div>
    </Dialog>
  );
}
