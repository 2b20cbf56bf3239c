/** What both sides said, newest last, kept in sight unless the reader scrolled back. */

import { useEffect, useRef } from "react";

import type { Segment } from "../call/transcript.ts";

interface Props {
  readonly segments: readonly Segment[];
  readonly agentName: string;
  readonly running: boolean;
}

const NEAR = 80;

export function Transcript({ segments, agentName, running }: Props) {
  const box = useRef<HTMLDivElement>(null);
  const following = useRef(true);

  useEffect(() => {
    const element = box.current;
    if (element && following.current) element.scrollTop = element.scrollHeight;
  }, [segments]);

  useEffect(() => {
    const element = box.current;
    if (!element) return undefined;
    // A problem shown beside it, a phone's keyboard: the newest words stay in sight.
    const watcher = new ResizeObserver(() => {
      if (following.current) element.scrollTop = element.scrollHeight;
    });
    watcher.observe(element);
    return () => watcher.disconnect();
  }, []);

  const noteScroll = () => {
    const element = box.current;
    if (element) following.current = element.scrollHeight - element.scrollTop - element.clientHeight < NEAR;
  };

  return (
    <section className="transcript" aria-label="Transcript">
      {/* Focusable, so that the keyboard can scroll it; not live, since the agent's voice says it already. */}
      <div
        className="transcript-scroll"
        ref={box}
        onScroll={noteScroll}
        tabIndex={0}
        role="log"
        aria-live="off"
        aria-label="What was said"
      >
        {segments.length === 0 && <Empty running={running} />}
        <ol data-testid="transcript">
          {segments.map((segment) => (
            <li key={segment.id} className="entry" data-role={segment.role} data-final={segment.final} data-other={segment.role === "user" && segment.speaker !== null}>
              <span className="speaker">{segment.speaker ?? (segment.role === "agent" ? agentName : "You")}</span>
              <p className="words">{segment.text}</p>
            </li>
          ))}
        </ol>
      </div>
    </section>
  );
}

function Empty({ running }: { running: boolean }) {
  return (
    <p className="empty">
      {running ? "Say something. You can interrupt at any time." : "What you and the agent say appears here."}
    </p>
  );
}
