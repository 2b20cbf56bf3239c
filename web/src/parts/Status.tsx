/** What is going on, in words. */

import type { CallView } from "../call/view.ts";
import { announced, status } from "./words.ts";

export function Status({ view, agentName }: { view: CallView; agentName: string }) {
  return (
    <div className="status-block">
      <p className="status" data-testid="status" data-state={view.phase}>
        {status(view, agentName)}
      </p>
      <output className="unseen">{announced(view, agentName)}</output>
    </div>
  );
}
