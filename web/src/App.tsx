/** The page: whom to talk to, the call itself, and what was said. */

import { RoomAudioRenderer } from "@livekit/components-react";
import { useState } from "react";

import { underWay } from "./call/view.ts";
import { CallButton } from "./parts/CallButton.tsx";
import { KeyForm } from "./parts/KeyForm.tsx";
import { MessageForm } from "./parts/MessageForm.tsx";
import { Orb } from "./parts/Orb.tsx";
import { PersonalityChoice } from "./parts/PersonalityChoice.tsx";
import { ProblemNote } from "./parts/ProblemNote.tsx";
import { Status } from "./parts/Status.tsx";
import { Transcript } from "./parts/Transcript.tsx";
import { useCall } from "./parts/use_call.ts";
import { usePersonalities } from "./parts/use_personalities.ts";
import * as stored from "./stored.ts";

export function App() {
  const [call, view] = useCall();
  const choices = usePersonalities();
  const [session, setSession] = useState(stored.session);
  const [wanted, setWanted] = useState(stored.chosenPersonality);

  const running = underWay(view.phase);
  const chosen = choices.list?.find((one) => one.id === wanted) ?? choices.list?.[0] ?? null;
  const problem = view.problem ?? choices.problem;
  const keyWanted = problem?.code === "key-needed" || problem?.code === "key-unknown";

  const start = () => {
    stored.noteTalk(session);
    void call.start({ session, user: stored.user(), personality: chosen?.id ?? null });
  };
  const startAnew = () => {
    call.clear();
    setSession(stored.newSession());
  };
  const choose = (id: string) => {
    stored.choosePersonality(id);
    setWanted(id);
  };
  const useKey = (key: string) => {
    stored.keepApiKey(key);
    choices.reload();
    if (view.problem) start();
  };

  return (
    <div className="page" data-running={running}>
      <header>
        <h1>
          <img src="/favicon.svg" alt="" width="28" height="28" /> Voice Node
        </h1>
        <button type="button" className="plain" data-testid="new-conversation" onClick={startAnew}>
          New conversation
        </button>
      </header>
      <main>
        <section className="stage" aria-label="Call">
          <div className="stage-head">
            <Orb phase={view.phase} room={view.room} />
            <Status view={view} />
          </div>
          <CallButton running={running} again={view.phase === "ended"} onStart={start} onStop={() => call.stop()} />
          {view.phase === "idle" && stored.talkedBefore(session) && (
            <p className="quiet hint" data-testid="continued">
              You go on with your last conversation.
            </p>
          )}
          {view.soundBlocked && (
            <button type="button" className="plain" data-testid="unlock-sound" onClick={() => void call.unlockSound()}>
              Turn the sound on
            </button>
          )}
          <ProblemNote problem={problem} />
          {keyWanted && <KeyForm onKey={useKey} />}
          <PersonalityChoice list={choices.list} chosen={chosen?.id ?? null} disabled={running} onChoose={choose} />
        </section>
        <div className="talk">
          <Transcript segments={view.segments} agentName={chosen?.name ?? "Agent"} running={running} />
          {running && <MessageForm enabled={view.agentHere} onSend={(text) => call.type(text)} />}
        </div>
      </main>
      {view.room && <RoomAudioRenderer room={view.room} />}
    </div>
  );
}
