/** Which microphone, how loud it is, which speaker, how to talk, and what one is called: before a call and during it. */

import { useMediaDeviceSelect } from "@livekit/components-react";
import { type LocalAudioTrack, supportsAudioOutputSelection } from "livekit-client";
import { useCallback, useId, useState } from "react";

import type { Call } from "../call/call.ts";
import { problem } from "../call/problems.ts";
import { withPushToTalk } from "../call/push_to_talk.ts";
import { playTestSound } from "../call/test_sound.ts";
import type { CallView } from "../call/view.ts";
import * as stored from "../stored.ts";
import { Dialog } from "./Dialog.tsx";
import { LevelMeter } from "./LevelMeter.tsx";
import { ProblemWords } from "./ProblemNote.tsx";
import { Switch } from "./Switch.tsx";
import { usePreview } from "./use_preview.ts";

/** What browsers call the device that the system would take, where they list it. */
const SYSTEM = "default";

interface Props {
  readonly call: Call;
  readonly view: CallView;
  readonly onClose: () => void;
}

export function SoundSettings({ call, view, onClose }: Props) {
  const [microphone, setMicrophone] = useState(stored.microphone.get);
  // During a call its own microphone is shown; before one it is opened for as long as this is.
  const preview = usePreview(view.microphone === null, microphone);
  const track = view.microphone ?? preview.track;
  const [name, setName] = useState(() => stored.name.get() ?? "");
  const nameId = useId();

  const chooseMicrophone = (id: string | null) => {
    stored.microphone.set(id);
    setMicrophone(id);
    void call.switchMicrophone(id);
  };

  return (
    <Dialog title="Sound settings" testId="sound-settings" onClose={onClose}>
      <div className="settings">
        <section aria-label="Microphone">
          <DeviceChoice
            kind="audioinput"
            label="Microphone"
            usual="The system's microphone"
            track={track}
            chosen={microphone}
            onChoose={chooseMicrophone}
          />
          <LevelMeter track={track} label="Microphone level" />
          <p className="quiet small">{meterWords(view, track !== null, preview.problem !== null)}</p>
          {preview.problem && (
            <div role="alert">
              <ProblemWords problem={preview.problem} />
            </div>
          )}
        </section>
        {supportsAudioOutputSelection() && <Speaker call={call} track={track} />}
        <section aria-label="How to talk">
          <Switch
            label="Push to talk"
            hint="You are heard only while you hold the talk button or Space."
            testId="push-to-talk"
            on={view.gate.pushToTalk}
            onChange={(on) => {
              stored.pushToTalk.set(on);
              call.gate((now) => withPushToTalk(now, on));
            }}
          />
        </section>
        <section aria-label="Your name">
          <label className="field" htmlFor={nameId}>
            Your name, for others in the same conversation
          </label>
          <input
            id={nameId}
            type="text"
            autoComplete="off"
            maxLength={60}
            placeholder="Optional; taken at the next start"
            data-testid="name"
            value={name}
            onChange={(event) => {
              setName(event.target.value);
              stored.name.set(event.target.value.trim());
            }}
          />
        </section>
      </div>
    </Dialog>
  );
}

function Speaker({ call, track }: { call: Call; track: LocalAudioTrack | null }) {
  const [speaker, setSpeaker] = useState(stored.speaker.get);
  const [failed, setFailed] = useState(false);
  const keep = (id: string | null) => {
    stored.speaker.set(id);
    setSpeaker(id);
  };
  const choose = async (id: string | null) => {
    keep(id);
    setFailed(false);
    if (await call.switchSpeaker(id)) return;
    keep(null);
    setFailed(true);
  };
  const play = () => {
    setFailed(false);
    playTestSound(speaker).catch(() => setFailed(true));
  };
  return (
    <section aria-label="Speaker">
      <div className="with-button">
        <DeviceChoice
          kind="audiooutput"
          label="Speaker"
          usual="The system's speaker"
          track={track}
          chosen={speaker}
          onChoose={(id) => void choose(id)}
        />
        <button type="button" className="plain" data-testid="test-sound" onClick={play}>
          Play a sound
        </button>
      </div>
      {failed && (
        <div role="alert">
          <ProblemWords problem={problem("speaker-failed")} />
        </div>
      )}
    </section>
  );
}

interface ChoiceProps {
  readonly kind: "audioinput" | "audiooutput";
  readonly label: string;
  /** What the system's own is called while the browser doesn't name it. */
  readonly usual: string;
  /** An open microphone: only then do browsers name the devices, and asking for names never prompts. */
  readonly track: LocalAudioTrack | null;
  readonly chosen: string | null;
  readonly onChoose: (id: string | null) => void;
}

/** A list that follows the devices as they are plugged in and out. */
function DeviceChoice({ kind, label, usual, track, chosen, onChoose }: ChoiceProps) {
  const id = useId();
  const ignore = useCallback(() => undefined, []);
  const { devices } = useMediaDeviceSelect({ kind, requestPermissions: track !== null, onError: ignore });
  const named = devices.filter((device) => device.deviceId && device.deviceId !== SYSTEM);
  const there = named.some((device) => device.deviceId === chosen);
  return (
    <div className="field">
      <label htmlFor={id}>{label}</label>
      <select
        id={id}
        data-testid={`choose-${kind}`}
        value={there ? (chosen ?? SYSTEM) : SYSTEM}
        onChange={(event) => onChoose(event.target.value === SYSTEM ? null : event.target.value)}
      >
        <option value={SYSTEM}>{usual}</option>
        {named.map((device, at) => (
          <option key={device.deviceId} value={device.deviceId}>
            {device.label || `${label} ${at + 1}`}
          </option>
        ))}
      </select>
    </div>
  );
}

function meterWords(view: CallView, there: boolean, failed: boolean): string {
  if (failed) return "";
  if (!there) return "Waiting for the microphone: your browser may ask for your permission.";
  if (view.microphone && !view.open) return "Your microphone is closed now; the meter moves once it is open.";
  return "Say something: the bar should reach the middle.";
}
