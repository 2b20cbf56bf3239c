/** Another personality in the middle of a call. */

import { useState } from "react";

import type { Personality } from "../api.ts";
import { Dialog } from "./Dialog.tsx";
import { PersonalityChoice } from "./PersonalityChoice.tsx";

interface Props {
  readonly list: readonly Personality[] | null;
  readonly chosen: string | null;
  /** Gives whether the agent took it on. */
  readonly onChoose: (id: string) => Promise<boolean>;
  readonly onClose: () => void;
}

export function PersonalityDialog({ list, chosen, onChoose, onClose }: Props) {
  const [wanted, setWanted] = useState(chosen);
  const [busy, setBusy] = useState(false);
  const change = async () => {
    setBusy(true);
    if (wanted !== null && wanted !== chosen) await onChoose(wanted);
    onClose();
  };
  return (
    <Dialog title="Who answers" testId="personality-dialog" onClose={onClose}>
      <div className="settings">
        <PersonalityChoice list={list} chosen={wanted} onChoose={setWanted} />
        <button type="button" data-testid="use-personality" disabled={busy || !wanted} onClick={() => void change()}>
          Talk with {list?.find((one) => one.id === wanted)?.name ?? "them"}
        </button>
      </div>
    </Dialog>
  );
}
