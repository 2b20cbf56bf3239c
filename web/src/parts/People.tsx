/** Who is in the call, who of them speaks, and whether the user's microphone is open: by LiveKit's own word. */

import { useIsSpeaking, useParticipants } from "@livekit/components-react";
import { type Participant, ParticipantKind } from "livekit-client";

import { agentIn, type CallView } from "../call/view.ts";

/** The two ends of the string. */
export function Ends({ view, agentName }: { view: CallView; agentName: string }) {
  const agent = view.room && agentIn(view.room);
  return (
    <div className="ends">
      {view.room ? (
        <>
          <Live who={view.room.localParticipant} side="user" name="You" aside={microphoneWord(view)} />
          {agent ? (
            <Live who={agent} side="agent" name={agentName} />
          ) : (
            <Name side="agent" name={agentName} speaking={false} aside="not here yet" />
          )}
        </>
      ) : (
        <>
          <Name side="user" name="You" speaking={false} />
          <Name side="agent" name={agentName} speaking={false} />
        </>
      )}
    </div>
  );
}

/** People besides this page's user, by name; within LiveKit's `RoomContext`. */
export function Others() {
  const others = useParticipants().filter((one) => !one.isLocal && one.kind !== ParticipantKind.AGENT);
  if (!others.length) return null;
  return (
    <ul className="others" data-testid="others" aria-label="Also in this call">
      {others.map((one) => (
        <li key={one.identity}>
          <Live who={one} side="other" name={one.name || "Someone else"} />
        </li>
      ))}
    </ul>
  );
}

interface Shown {
  readonly side: "user" | "agent" | "other";
  readonly name: string;
  /** A word about them, shown and read with the name. */
  readonly aside?: string | undefined;
}

function Live({ who, ...shown }: Shown & { who: Participant }) {
  return <Name {...shown} speaking={useIsSpeaking(who)} />;
}

function Name({ side, name, aside, speaking }: Shown & { speaking: boolean }) {
  return (
    <span className="person" data-side={side} data-speaking={speaking} data-testid={`person-${side}`}>
      <span className="person-mark" aria-hidden="true">
        <i />
        <i />
        <i />
      </span>
      <span className="person-name">{name}</span>
      {aside && <span className="person-aside">{aside}</span>}
      {speaking && <span className="unseen"> (speaking)</span>}
    </span>
  );
}

function microphoneWord(view: CallView): string | undefined {
  if (view.open) return undefined;
  return view.gate.pushToTalk ? "hold to talk" : "muted";
}
