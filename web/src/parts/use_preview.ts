/** The microphone, open for as long as it is looked at before a call; nothing of it leaves the page. */

import type { LocalAudioTrack } from "livekit-client";
import { useEffect, useState } from "react";

import { openMicrophone } from "../call/microphone.ts";
import { problem, type Problem, Trouble } from "../call/problems.ts";

interface Preview {
  readonly track: LocalAudioTrack | null;
  readonly problem: Problem | null;
}

const NOTHING: Preview = { track: null, problem: null };

export function usePreview(wanted: boolean, device: string | null): Preview {
  const [preview, setPreview] = useState(NOTHING);

  useEffect(() => {
    if (!wanted) return undefined;
    let current = true;
    let opened: LocalAudioTrack | null = null;
    const open = () => {
      openMicrophone(device).then(
        (track) => {
          if (!current) {
            track.stop();
            return;
          }
          opened?.stop();
          opened = track;
          track.on("ended", open);
          setPreview({ track, problem: null });
        },
        (error: unknown) => {
          const met = error instanceof Trouble ? error.problem : problem("microphone-busy");
          if (current) setPreview({ track: null, problem: met });
        },
      );
    };
    // One that was plugged in may be the one that was missing.
    const again = () => {
      if (!opened || opened.mediaStreamTrack.readyState === "ended") open();
    };
    open();
    navigator.mediaDevices?.addEventListener("devicechange", again);
    return () => {
      current = false;
      opened?.stop();
      navigator.mediaDevices?.removeEventListener("devicechange", again);
      setPreview(NOTHING);
    };
  }, [wanted, device]);

  return preview;
}
