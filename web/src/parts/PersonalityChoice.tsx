/** Whom to talk to: one card per personality, a radio group for the keyboard and screen readers. */

import type { Personality } from "../api.ts";

interface Props {
  readonly list: readonly Personality[] | null;
  readonly chosen: string | null;
  readonly disabled: boolean;
  readonly onChoose: (id: string) => void;
}

export function PersonalityChoice({ list, chosen, disabled, onChoose }: Props) {
  if (list?.length === 0) return null;
  return (
    <fieldset className="personalities" data-testid="personality" disabled={disabled}>
      <legend>Talk with</legend>
      {list === null ? (
        <p className="quiet">Loading…</p>
      ) : (
        list.map((one) => (
          <label key={one.id} className="personality" data-id={one.id}>
            <input
              type="radio"
              name="personality"
              value={one.id}
              checked={one.id === chosen}
              onChange={() => onChoose(one.id)}
            />
            <span className="initial" aria-hidden="true">
              {[...one.name][0]?.toUpperCase()}
            </span>
            <span className="personality-words">
              <strong>{one.name}</strong>
              <span>{one.description}</span>
            </span>
          </label>
        ))
      )}
    </fieldset>
  );
}
