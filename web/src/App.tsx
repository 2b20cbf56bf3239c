/** The page: whom to talk to, the call itself, and what was said. */

import { RoomAudioRenderer, RoomContext } from "@livekit/components-react";
import { useCallback, useEffect, useRef, useState } from "react";

import { type CallView, underWay } from "./call/view.ts";
import { Controls } from "./parts/Controls.tsx";
import { Header } from "./parts/Header.tsx";
import { HelpDialog } from "./parts/HelpDialog.tsx";
import { Icon } from "./parts/Icon.tsx";
import { KeyForm } from "./parts/KeyForm.tsx";
import { MessageForm } from "./parts/MessageForm.tsx";
import { Ends, Others } from "./parts/People.tsx";
import { PersonalityChoice } from "./parts/PersonalityChoice.tsx";
import { PersonalityDialog } from "./parts/PersonalityDialog.tsx";
import { ProblemNote } from "./parts/ProblemNote.tsx";
import { SoundSettings } from "./parts/SoundSettings.tsx";
import { Status } from "./parts/Status.tsx";
import { Timing } from "./parts/Timing.tsx";
import { Transcript } from "./parts/Transcript.tsx";
import { useCall } from "./parts/use_call.ts";
import { usePersonalities } from "./parts/use_personalities.ts";
import { useShortcuts } from "./parts/use_shortcuts.ts";
import { useWide } from "./parts/use_wide.ts";
import { RoomString, VoiceString } from "./parts/VoiceString.tsx";
import * as stored from "./stored.ts";

type Open = "sound" | "help" | "personality" | null;

export function App() {
  const [call, view] = useCall();
  const choices = usePersonalities();
  const [session, setSession] = useState(stored.session);
  const [wanted, setWanted] = useState(stored.chosenPersonality);
  const [open, setOpen] = useState<Open>(null);
  const startButton = useRef<HTMLButtonElement>(null);
  const wide = useWide();

  const running = underWay(view.phase);
  const chosen = choices.list?.find((one) => one.id === wanted) ?? choices.list?.[0] ?? null;
  const agentName = (running ? view.personality?.name : null) ?? chosen?.name ?? "the agent";
  const problem = view.problem ?? choices.problem;
  const keyWanted = problem?.code === "key-needed" || problem?.code === "key-unknown";
  const talking = running || view.segments.length > 0;

  useShortcuts(call, useCallback(() => setOpen("help"), []));
  useEffect(() => {
    // The button that ended the call is gone; the keyboard goes on where the next one begins.
    if (view.phase === "ended" && document.activeElement === document.body) startButton.current?.focus();
  }, [view.phase]);

  const start = () => {
    stored.noteTalk(session);
    const personality = chosen && { id: chosen.id, name: chosen.name };
    void call.start({ session, user: stored.user(), name: stored.name.get() ?? "", personality });
  };
  const startAnew = () => {
    call.clear();
    setSession(stored.newSession());
  };
  const choose = (id: string) => {
    stored.choosePersonality(id);
    setWanted(id);
  };
  const become = async (id: string) => {
    const other = choices.list?.find((one) => one.id === id);
    if (!other || !(await call.become({ id, name: other.name }))) return false;
    choose(id);
    return true;
  };
  const useKey = (key: string) => {
    stored.keepApiKey(key);
    choices.reload();
    if (view.problem) start();
  };
  const close = () => setOpen(null);

  return (
    <div className="page" data-running={running} data-talking={talking}>
      <Header
        room={view.room}
        onNew={startAnew}
        onSound={() => setOpen("sound")}
        onHelp={() => setOpen("help")}
      />
      <main>
        <section className="stage" aria-label="Call">
          <div className="scene">
            {view.room ? (
              <RoomContext value={view.room}>
                <RoomString phase={view.phase} />
                <Ends view={view} agentName={agentName} />
                <Others />
              </RoomContext>
            ) : (
              <>
                <VoiceString phase={view.phase} user={undefined} agent={undefined} />
                <Ends view={view} agentName={agentName} />
              </>
            )}
          </div>
          <div className="now">
            <Status view={view} agentName={agentName} />
            {running && view.agentHere && choices.list && choices.list.length > 1 && (
              <button type="button" className="link" data-testid="change-personality" onClick={() => setOpen("personality")}>
                Change who answers
              </button>
            )}
          </div>
          {!running && (
            <div className="begin">
              <button ref={startButton} type="button" className="start" data-testid="start" onClick={start}>
                <Icon name="microphone" />
                {beginWords(view)}
              </button>
              <button type="button" className="plain" data-testid="open-sound" onClick={() => setOpen("sound")}>
                Sound settings
              </button>
            </div>
          )}
          {view.phase === "idle" && stored.talkedBefore(session) && (
            <p className="quiet hint" data-testid="continued">
              You go on with your last conversation.
            </p>
          )}
          {view.soundBlocked && (
            <button type="button" className="plain" data-testid="unlock-sound" onClick={() => void call.unlockSound()}>
              <Icon name="sound" />
              Turn the sound on
            </button>
          )}
          <ProblemNote problem={problem} onDismiss={running && view.problem ? () => call.dismissProblem() : undefined} />
          {keyWanted && <KeyForm onKey={useKey} />}
          {!running && <PersonalityChoice list={choices.list} chosen={chosen?.id ?? null} onChoose={choose} />}
          {talking && <Timing turns={view.turns} open={wide} />}
        </section>
        {talking && (
          <div className="talk-column">
            <Transcript segments={view.segments} agentName={agentName} running={running} />
            {running && (
              <div className="dock">
                <Controls call={call} view={view} />
                <MessageForm enabled={view.agentHere} onSend={(text) => call.type(text)} />
              </div>
            )}
          </div>
        )}
      </main>
      {view.room && <RoomAudioRenderer room={view.room} />}
      {open === "sound" && <SoundSettings call={call} view={view} onClose={close} />}
      {open === "help" && <HelpDialog onClose={close} />}
      {open === "personality" && (
        <PersonalityDialog list={choices.list} chosen={view.personality?.id ?? null} onChoose={become} onClose={close} />
      )}
    </div>
  );
}

function beginWords({ phase, problem, segments }: CallView): string {
  if (phase !== "ended") return "Start talking";
  return problem && !segments.length ? "Try again" : "Go on talking";
}
