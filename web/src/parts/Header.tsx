/** The page's name, how good the line is, and what is there at any time. */

import type { Room } from "livekit-client";

import { Icon } from "./Icon.tsx";
import { Quality } from "./Quality.tsx";
import { ThemeButton } from "./ThemeButton.tsx";

interface Props {
  readonly room: Room | null;
  readonly onNew: () => void;
  readonly onSound: () => void;
  readonly onHelp: () => void;
}

export function Header({ room, onNew, onSound, onHelp }: Props) {
  return (
    <header className="top">
      <h1>
        <img src="/favicon.svg" alt="" width="28" height="28" />
        <span>Voice Node</span>
      </h1>
      <div className="tools">
        {room && <Quality participant={room.localParticipant} />}
        <button type="button" className="plain new" data-testid="new-conversation" aria-label="New conversation" onClick={onNew}>
          <Icon name="add" />
          <span className="wide">New conversation</span>
        </button>
        <button type="button" className="round" data-testid="settings" aria-label="Sound settings" title="Sound settings" onClick={onSound}>
          <Icon name="settings" />
        </button>
        <ThemeButton />
        <button type="button" className="round" data-testid="help" aria-label="Help and keys" title="Help and keys" onClick={onHelp}>
          <Icon name="help" />
        </button>
      </div>
    </header>
  );
}
