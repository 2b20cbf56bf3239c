/**
 * A turn's latency record (contract.md) as steps to draw and to read: end of speech, turn over, first sound ready,
 * sent, heard; and the work beneath, much of it done before the turn was over.
 *
 * Offsets are seconds after the end of speech; negative ones were ahead of it.
 */

export type Stage = "commit" | "transcript" | "first_token" | "first_audio" | "sent" | "heard";

export interface TurnRecord extends Readonly<Record<Stage, number | null>> {
  readonly turn: number;
  /** When speech ended, unix seconds of the agent's clock; null where it wasn't told. */
  readonly speech_end: number | null;
}

export interface Step {
  readonly stage: Stage;
  readonly from: number;
  readonly to: number;
  /** Whether the answer waited for it; those steps add up to the whole. */
  readonly waited: boolean;
}

export interface Waterfall {
  /** Until the answer was heard, or until it was sent where that isn't known (yet). */
  readonly total: number;
  readonly measured: "heard" | "sent";
  readonly steps: readonly Step[];
  /** The scale: the earliest and the latest offset, with the end of speech on it. */
  readonly start: number;
  readonly end: number;
}

const STAGES: readonly Stage[] = ["commit", "transcript", "first_token", "first_audio", "sent", "heard"];

/** The shortest scale drawn: an answer after 20 ms shouldn't look like one after 2 s. */
const SHORTEST = 0.3;

/** Turns kept for looking back. */
const KEPT = 50;

/** A record as it came, or null where it isn't one. */
export function recordOf(value: unknown): TurnRecord | null {
  if (typeof value !== "object" || value === null) return null;
  const all = value as Record<string, unknown>;
  const turn = number(all["turn"]);
  const offsets = STAGES.map((stage) => [stage, number(all[stage])] as const);
  if (turn === null || offsets.every(([, offset]) => offset === null)) return null;
  const stages = Object.fromEntries(offsets) as Record<Stage, number | null>;
  return { turn, speech_end: number(all["speech_end"]), ...stages };
}

/** The turns with this one: a record that comes again replaces itself, a new agent's turns count anew. */
export function withRecord(turns: readonly TurnRecord[], record: TurnRecord): readonly TurnRecord[] {
  const at = turns.findLastIndex((one) => one.turn === record.turn && one.speech_end === record.speech_end);
  return at < 0 ? [...turns, record].slice(-KEPT) : turns.with(at, record);
}

/** Until the answer was heard, else until it was sent; null where neither is known. */
export function delayOf(record: TurnRecord): number | null {
  return record.heard ?? record.sent;
}

export function waterfallOf(record: TurnRecord): Waterfall | null {
  const total = delayOf(record);
  if (total === null) return null;
  const { commit, transcript, first_token: token, first_audio: audio, sent, heard } = record;
  const steps: Step[] = [];
  const add = (stage: Stage, from: number | null, to: number | null, waited: boolean) => {
    if (to !== null) steps.push({ stage, from: Math.min(from ?? to, to), to, waited });
  };
  // When the answer could begin at the earliest.
  const over = commit ?? 0;
  add("commit", Math.min(0, over), commit, true);
  add("transcript", transcript, transcript, false);
  add("first_token", transcript !== null && token !== null && transcript < token ? transcript : token, token, false);
  add("first_audio", token, audio, audio !== null && audio > over);
  add("sent", Math.max(over, audio ?? over), sent, true);
  add("heard", sent, heard, true);
  const offsets = steps.flatMap((step) => [step.from, step.to]);
  const start = Math.min(0, ...offsets);
  return {
    total,
    measured: heard === null ? "sent" : "heard",
    steps,
    start,
    end: Math.max(start + SHORTEST, ...offsets),
  };
}

/** The waited-for steps end to end, from the end of speech to the total: the turn in one bar. */
export function inOneBar(record: TurnRecord): readonly Step[] {
  const path: Step[] = [];
  let from = 0;
  for (const stage of ["commit", "first_audio", "sent", "heard"] as const) {
    const to = record[stage];
    if (to === null || to <= from) continue;
    path.push({ stage, from, to, waited: true });
    from = to;
  }
  return path;
}

/** Where an offset lies on a waterfall's scale, 0 to 100. */
export function percent(waterfall: Waterfall, offset: number): number {
  return ((offset - waterfall.start) / (waterfall.end - waterfall.start)) * 100;
}

function number(value: unknown): number | null {
  return typeof value === "number" && Number.isFinite(value) ? value : null;
}
