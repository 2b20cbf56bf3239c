/** The room's text topics: both sides' words, latency records, and errors the agent tells about. */

import { RoomEvent, type Room, type TextStreamReader } from "livekit-client";

import type { Words } from "./transcript.ts";

const FINAL = "lk.transcription_final";
const SEGMENT = "lk.segment_id";

export interface RoomTextEvents {
  /** Words of a participant; `id` names the segment, `stream` orders the streams. */
  words(identity: string, words: Pick<Words, "id" | "text" | "final" | "stream">): void;
  record(record: unknown): void;
  error(code: string, message: string): void;
}

/** Listen on a room that is about to connect. */
export function readRoomText(room: Room, events: RoomTextEvents): void {
  let streams = 0;
  room.registerTextStreamHandler("lk.transcription", (reader, { identity }) => {
    void readWords(reader, identity, ++streams, events);
  });
  room.registerTextStreamHandler("voice.turn", (reader) => {
    void readJson(reader, events.record);
  });
  const failed = (told: unknown): void => {
    const { code, message } = (told ?? {}) as { code?: unknown; message?: unknown };
    events.error(String(code ?? ""), String(message ?? ""));
  };
  room.registerTextStreamHandler("voice.error", (reader) => {
    void readJson(reader, failed);
  });
  // From the server itself, which can't send text streams; a participant's data of that topic is not believed.
  room.on(RoomEvent.DataReceived, (data, from, _, topic) => {
    if (topic === "voice.error" && !from) failed(parsed(data));
  });
}

async function readWords(
  reader: TextStreamReader,
  identity: string,
  stream: number,
  events: RoomTextEvents,
): Promise<void> {
  const id = `${identity}/${reader.info.attributes?.[SEGMENT] ?? reader.info.id}`;
  let text = "";
  try {
    for await (const piece of reader) {
      text += piece;
      events.words(identity, { id, text, final: false, stream });
    }
  } catch {
    // The speaker left in the middle of a word; what came so far stays.
  }
  // Whether they are final is known at the stream's end only.
  events.words(identity, { id, text, final: reader.info.attributes?.[FINAL] === "true", stream });
}

function parsed(data: Uint8Array): unknown {
  try {
    return JSON.parse(new TextDecoder().decode(data));
  } catch {
    return null;
  }
}

async function readJson(reader: TextStreamReader, then: (value: unknown) => void): Promise<void> {
  try {
    then(JSON.parse(await reader.readAll()));
  } catch {
    // Broken off or not JSON: nothing to show.
  }
}
