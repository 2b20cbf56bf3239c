/** What is going on, in words, with the last turn's delay beside it. */

import { agentTalks, type CallView } from "../call/view.ts";
import { ANNOUNCED, STATUS } from "./words.ts";

export function Status({ view }: { view: CallView }) {
  return (
    <div className="status-block">
      <p className="status" data-testid="status" data-state={view.phase}>
        {STATUS[view.phase]}
      </p>
      <p className="delay" data-testid="delay">
        {view.delay === null || !agentTalks(view.phase) ? "" : `Answered in ${Math.max(0, view.delay).toFixed(2)} s`}
      </p>
      <output className="unseen">{ANNOUNCED[view.phase]}</output>
    </div>
  );
}
