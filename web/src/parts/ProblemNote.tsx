/** What went wrong and what to do, counting down where waiting helps. */

import { useEffect, useState } from "react";

import type { Problem } from "../call/problems.ts";

export function ProblemNote({ problem }: { problem: Problem | null }) {
  return (
    <div role="alert">
      {problem && (
        <div className="problem" data-testid="error" data-code={problem.code}>
          <strong>{problem.title}</strong>
          <p>{problem.fix}</p>
          {problem.retryAt !== null && <Countdown key={problem.retryAt} until={problem.retryAt} />}
        </div>
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
