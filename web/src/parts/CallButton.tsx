/** Starts and ends the call: one button, so that the keyboard's focus stays where it is. */

interface Props {
  readonly running: boolean;
  readonly again: boolean;
  readonly onStart: () => void;
  readonly onStop: () => void;
}

export function CallButton({ running, again, onStart, onStop }: Props) {
  return running ? (
    <button
      key="call"
      type="button"
      className="call stop"
      data-testid="stop"
      aria-label="End the call"
      onClick={onStop}
    >
      <svg viewBox="0 0 20 20" aria-hidden="true">
        <rect x="5" y="5" width="10" height="10" rx="2" />
      </svg>
      <span>
        End<span className="wide"> the call</span>
      </span>
    </button>
  ) : (
    <button key="call" type="button" className="call start" data-testid="start" onClick={onStart}>
      <svg viewBox="0 0 20 20" aria-hidden="true">
        <rect x="7" y="2" width="6" height="10" rx="3" />
        <path d="M4 9.5a6 6 0 0 0 12 0M10 15.5V18" />
      </svg>
      {again ? "Go on talking" : "Start talking"}
    </button>
  );
}
