/**
 * The transcript of both sides, built from text streams.
 *
 * A segment is one turn of one speaker. Its words arrive as streams on `lk.transcription`: one stream that grows
 * while the agent speaks, or one stream after another, each holding the whole segment anew (a person's interim
 * words, a reply cut short). The newest stream of a segment is what was said.
 */

export type Role = "user" | "agent";

export interface Segment {
  readonly id: string;
  readonly role: Role;
  /** What the one who spoke was called then; null for this page's user, and for an agent without a name. */
  readonly speaker: string | null;
  readonly text: string;
  readonly final: boolean;
  /** Order of the stream that the text came from. */
  readonly stream: number;
}

export interface Words {
  readonly id: string;
  readonly role: Role;
  readonly speaker: string | null;
  readonly text: string;
  readonly final: boolean;
  readonly stream: number;
}

/** The transcript with these words in it. Older streams never overwrite newer ones. */
export function withWords(segments: readonly Segment[], words: Words): readonly Segment[] {
  const at = segments.findIndex((segment) => segment.id === words.id);
  const known = segments[at];
  if (known && known.stream > words.stream) return segments;
  if (known && known.text === words.text && known.final === words.final && known.stream === words.stream) {
    return segments;
  }
  if (!words.text.trim()) {
    // Nothing was said after all (a reply cut before its first sound); interim words may still follow.
    return words.final && known ? segments.toSpliced(at, 1) : segments;
  }
  // Who began it said it, though the agent may have become another one since.
  return known ? segments.with(at, { ...words, speaker: known.speaker }) : [...segments, words];
}

/** The transcript after a speaker has left: nothing of theirs will change any more. */
export function withAllFinal(segments: readonly Segment[], role: Role): readonly Segment[] {
  return segments.some((segment) => segment.role === role && !segment.final)
    ? segments.map((segment) => (segment.role === role ? { ...segment, final: true } : segment))
    : segments;
}
