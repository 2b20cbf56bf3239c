import assert from "node:assert/strict";
import { test } from "node:test";

import { delayOf, inOneBar, percent, recordOf, type TurnRecord, waterfallOf, withRecord } from "./waterfall.ts";

const PLAIN: TurnRecord = {
  turn: 3,
  speech_end: 1000.5,
  commit: 0.16,
  transcript: 0.1,
  first_token: 0.2,
  first_audio: 0.25,
  sent: 0.27,
  heard: 0.38,
};

/** Everything was ready before the person had finished. */
const AHEAD: TurnRecord = { ...PLAIN, transcript: -0.3, first_token: -0.28, first_audio: -0.2, sent: 0.17, heard: null };

function lengths(record: TurnRecord): number {
  return inOneBar(record).reduce((sum, step) => sum + step.to - step.from, 0);
}

test("the steps waited for add up to the whole", () => {
  assert.ok(Math.abs(lengths(PLAIN) - 0.38) < 1e-9);
  assert.ok(Math.abs(lengths(AHEAD) - 0.17) < 1e-9);
  assert.deepEqual(inOneBar(PLAIN).map((step) => step.stage), ["commit", "first_audio", "sent", "heard"]);
  assert.deepEqual(inOneBar(AHEAD).map((step) => step.stage), ["commit", "sent"]);
});

test("work done ahead lies before the end of speech and wasn't waited for", () => {
  const drawn = waterfallOf(AHEAD);
  assert.ok(drawn);
  assert.equal(drawn.start, -0.3);
  assert.equal(drawn.measured, "sent");
  const ready = drawn.steps.find((step) => step.stage === "first_audio");
  assert.deepEqual([ready?.from, ready?.to, ready?.waited], [-0.28, -0.2, false]);
  for (const step of drawn.steps) {
    assert.ok(step.from <= step.to);
    assert.ok(percent(drawn, step.from) >= 0 && percent(drawn, step.to) <= 100);
  }
  assert.ok(percent(drawn, 0) > 0);
});

test("sending begins once the turn is over and the sound is ready", () => {
  assert.equal(waterfallOf(PLAIN)?.steps.find((step) => step.stage === "sent")?.from, 0.25);
  assert.equal(waterfallOf(AHEAD)?.steps.find((step) => step.stage === "sent")?.from, 0.16);
});

test("a turn decided before the end of speech is drawn from there", () => {
  const drawn = waterfallOf({ ...AHEAD, commit: -0.05, sent: -0.04 });
  assert.deepEqual(drawn?.steps[0], { stage: "commit", from: -0.05, to: -0.05, waited: true });
  assert.equal(drawn?.total, -0.04);
});

test("missing stages are left out, a record with nothing in it is none", () => {
  const drawn = waterfallOf({ ...PLAIN, transcript: null, first_token: null, first_audio: null, heard: null });
  assert.deepEqual(drawn?.steps.map((step) => step.stage), ["commit", "sent"]);
  assert.equal(waterfallOf({ ...PLAIN, sent: null, heard: null }), null);
  assert.equal(recordOf({ turn: 1, sent: "soon" }), null);
  assert.equal(recordOf(null), null);
  assert.deepEqual(recordOf({ turn: 1, sent: 0.3 }), {
    turn: 1,
    speech_end: null,
    commit: null,
    transcript: null,
    first_token: null,
    first_audio: null,
    sent: 0.3,
    heard: null,
  });
});

test("a record that comes again with what was heard replaces itself", () => {
  const sent = { ...PLAIN, heard: null };
  const turns = withRecord(withRecord(withRecord([], sent), AHEAD), PLAIN);
  assert.deepEqual(turns.map(delayOf), [0.38]);
});

test("another agent's turn of the same number is another turn", () => {
  const turns = withRecord(withRecord([], PLAIN), { ...PLAIN, speech_end: 2000 });
  assert.equal(turns.length, 2);
});

test("only so many turns are kept", () => {
  let turns: readonly TurnRecord[] = [];
  for (let turn = 1; turn <= 80; turn++) turns = withRecord(turns, { ...PLAIN, turn });
  assert.equal(turns.length, 50);
  assert.equal(turns.at(-1)?.turn, 80);
});
