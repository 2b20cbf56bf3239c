/** Something that is on or off, with a word about what it does. */

import { useId } from "react";

interface Props {
  readonly label: string;
  readonly hint: string;
  readonly testId: string;
  readonly on: boolean;
  readonly onChange: (on: boolean) => void;
}

export function Switch({ label, hint, testId, on, onChange }: Props) {
  const id = useId();
  return (
    <div className="switch">
      <input
        id={id}
        type="checkbox"
        data-testid={testId}
        aria-describedby={`${id}-hint`}
        checked={on}
        onChange={(event) => onChange(event.target.checked)}
      />
      <div>
        <label htmlFor={id}>{label}</label>
        <p id={`${id}-hint`} className="quiet small">
          {hint}
        </p>
      </div>
    </div>
  );
}
