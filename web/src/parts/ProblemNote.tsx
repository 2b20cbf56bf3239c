/** What went wrong and what to do, counting down where waiting helps. */

import { useEffect, useState } from "react";

import type { Problem } from "../call/problems.ts";
import { Icon } from "./Icon.tsx";

interface Props {
  readonly problem: Problem | null;
  /** Given where it may be put away. */
  readonly onDismiss?: (() => void) | undefined;
}

export function ProblemNote({ problem, onDismiss }: Props) {
  return (
    <div role="alert" className="problem-place">
      {problem && <ProblemWords problem={problem} onDismiss={onDismiss} />}
    </div>
  );
}

export function ProblemWords({ problem, onDismiss }: Props & { problem: Problem }) {
  return (
    <div className="problem" data-testid="error" data-code={problem.code}>
      <div>
        <strong>{problem.title}</strong>
        <p>{problem.fix}</p>
        {problem.retryAt !== null && <Countdown key={problem.retryAt} until={problem.retryAt} />}
      </div>
      {onDismiss && (
        <button type="button" className="round" aria-label="Put this note away" data-testid="dismiss" onClick={onDismiss}>
          <Icon name="close" />
        </button>
      )}
    </div>
  );
}

function Countdown({ until }: { until: number }) {
  const [now, setNow] = useState(Date.now);
  useEffect(() => {
    const timer = setInterval(() => setNow(Date.now()), 250);
    return () => clearInterval(timer);
  }, []);
  const seconds = Math.ceil((until - now) / 1000);
  // Not live: the alert was read out once, the seconds need not be.
  return (
    <p data-testid="retry" aria-live="off">
      {seconds > 0 ? `Try again in ${seconds} s.` : "Try again now."}
    </p>
  );
}
