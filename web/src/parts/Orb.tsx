/** Shows who is speaking: a calm shape that follows the phase and the sound of both voices. */

import { RoomContext, useLocalParticipant, useTracks, useTrackVolume } from "@livekit/components-react";
import { LocalAudioTrack, ParticipantKind, RemoteAudioTrack, type Room, Track } from "livekit-client";
import type { CSSProperties } from "react";

import type { Phase } from "../call/view.ts";

const SMOOTH = { fftSize: 256, smoothingTimeConstant: 0.75 };

export function Orb({ phase, room }: { phase: Phase; room: Room | null }) {
  return (
    <div className="orb" data-phase={phase} aria-hidden="true">
      {room ? (
        <RoomContext value={room}>
          <Voices />
        </RoomContext>
      ) : (
        <Shape agent={0} user={0} />
      )}
    </div>
  );
}

/** Measures both voices; re-rendered with the sound, so it holds nothing else. */
function Voices() {
  const [agent] = useTracks([Track.Source.Microphone], { onlySubscribed: true }).filter(
    (reference) => reference.participant.kind === ParticipantKind.AGENT,
  );
  const { microphoneTrack } = useLocalParticipant();
  const spoken = agent?.publication.track;
  const heard = microphoneTrack?.track;
  return (
    <Shape
      agent={useTrackVolume(spoken instanceof RemoteAudioTrack ? spoken : undefined, SMOOTH)}
      user={useTrackVolume(heard instanceof LocalAudioTrack ? heard : undefined, SMOOTH)}
    />
  );
}

/** @param agent Loudness of the agent, 0 to 1. @param user Loudness of the user, 0 to 1. */
function Shape({ agent, user }: { agent: number; user: number }) {
  const levels = { "--agent": agent.toFixed(3), "--user": user.toFixed(3) } as CSSProperties;
  return (
    <div className="orb-shape" style={levels}>
      <span className="orb-user" />
      <span className="orb-agent" />
      <span className="orb-core" />
    </div>
  );
}
