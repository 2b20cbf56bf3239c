/** Whom to talk to: one card per personality, a radio group for the keyboard and screen readers. */

import { useId } from "react";

import type { Personality } from "../api.ts";

interface Props {
  readonly list: readonly Personality[] | null;
  readonly chosen: string | null;
  readonly onChoose: (id: string) => void;
}

export function PersonalityChoice({ list, chosen, onChoose }: Props) {
  const group = useId();
  if (list?.length === 0) return null;
  return (
    <fieldset className="personalities" data-testid="personality">
      <legend>Who answers</legend>
      {list === null ? (
        <p className="quiet">Loading…</p>
      ) : (
        list.map((one) => (
          <label key={one.id} className="personality" data-id={one.id}>
            <input type="radio" name={group} value={one.id} checked={one.id === chosen} onChange={() => onChoose(one.id)} />
            <strong>{one.name}</strong>
            <span>{one.description}</span>
          </label>
        ))
      )}
    </fieldset>
  );
}
