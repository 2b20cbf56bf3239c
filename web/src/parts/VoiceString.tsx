/**
 * Shows who is speaking: a string from the user to the agent that swings where sound is put into it.
 *
 * It says nothing that the names beside it don't say in words.
 */

import { useLocalParticipant, useTracks } from "@livekit/components-react";
import { createAudioAnalyser, LocalAudioTrack, ParticipantKind, RemoteAudioTrack, Track } from "livekit-client";
import { useEffect, useRef } from "react";

import { eased, levelOf } from "../call/level.ts";
import { type Side, strand } from "../call/string_shape.ts";
import type { Phase } from "../call/view.ts";

const STRANDS = [0, 1, 2] as const;
const SIDES: readonly Side[] = ["user", "agent"];

/** Pictures a second while something moves. */
const RATE = 30;

/** How the string stands before a call: a picture of what it does, quite still. */
const PICTURE = { level: 0.5, time: 2.4 } as const;

/** What swings by itself: less than speech, so that it doesn't seem to be heard. */
const THINKING = 0.16;

interface Props {
  readonly phase: Phase;
  /** The sounds of both sides, where they are there. */
  readonly user: LocalAudioTrack | undefined;
  readonly agent: RemoteAudioTrack | undefined;
}

/** The string within a room (LiveKit's `RoomContext`): it finds both voices by itself. */
export function RoomString({ phase }: { phase: Phase }) {
  const [agent] = useTracks([Track.Source.Microphone], { onlySubscribed: true }).filter(
    (reference) => reference.participant.kind === ParticipantKind.AGENT,
  );
  const { microphoneTrack } = useLocalParticipant();
  const spoken = agent?.publication.track;
  const own = microphoneTrack?.track;
  return (
    <VoiceString
      phase={phase}
      user={own instanceof LocalAudioTrack ? own : undefined}
      agent={spoken instanceof RemoteAudioTrack ? spoken : undefined}
    />
  );
}

export function VoiceString({ phase, user, agent }: Props) {
  const drawing = useRef<SVGSVGElement>(null);
  const latest = useRef(phase);
  const moves = phase !== "idle" && phase !== "ended";
  useEffect(() => {
    latest.current = phase;
  }, [phase]);

  useEffect(() => {
    const paths = [...(drawing.current?.querySelectorAll("path") ?? [])];
    const put = (levels: Readonly<Record<Side, number>>, at: number) => {
      for (const [index, path] of paths.entries()) {
        const side = SIDES[index < STRANDS.length ? 0 : 1] ?? "user";
        const shape = strand(side, index % STRANDS.length, levels[side], at);
        if (path.getAttribute("d") !== shape) path.setAttribute("d", shape);
      }
    };
    if (!moves) {
      put({ user: PICTURE.level, agent: PICTURE.level }, PICTURE.time);
      return undefined;
    }
    const still = window.matchMedia("(prefers-reduced-motion: reduce)").matches;
    const ears = { user: user && ear(user), agent: agent && ear(agent) };
    const shown = { user: 0, agent: 0 };
    let time = 0;
    const draw = () => {
      const thinking = latest.current === "thinking" || latest.current === "connecting";
      for (const side of SIDES) {
        const floor = thinking && side === "agent" && !still ? THINKING : 0;
        shown[side] = eased(shown[side], Math.max(ears[side]?.level() ?? 0, floor));
      }
      // Nothing moves: nothing is drawn.
      if (time > 0 && shown.user < 0.005 && shown.agent < 0.005) {
        shown.user = shown.agent = 0;
      }
      if (!still) time += 1 / RATE;
      put(shown, time);
    };
    draw();
    const timer = setInterval(draw, 1000 / RATE);
    return () => {
      clearInterval(timer);
      ears.user?.close();
      ears.agent?.close();
    };
  }, [user, agent, moves]);

  return (
    <svg
      ref={drawing}
      className="string"
      data-phase={phase}
      viewBox="0 0 600 120"
      preserveAspectRatio="none"
      aria-hidden="true"
    >
      <line x1="0" y1="60" x2="600" y2="60" />
      {SIDES.map((side) => STRANDS.map((one) => <path key={`${side}${one}`} data-side={side} data-strand={one} />))}
    </svg>
  );
}

/** @returns The loudness of a track, 0 to 1, at any moment. */
function ear(track: LocalAudioTrack | RemoteAudioTrack) {
  const { analyser, cleanup } = createAudioAnalyser(track, { fftSize: 1024 });
  const samples = new Float32Array(analyser.fftSize);
  return {
    level: () => {
      analyser.getFloatTimeDomainData(samples);
      return levelOf(samples);
    },
    close: () => void cleanup(),
  };
}
