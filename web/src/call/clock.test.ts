import assert from "node:assert/strict";
import { test } from "node:test";

import { AgentClock, offsetOf, quickest, readAnswer, type RoundTrip } from "./clock.ts";

/** A round trip to a clock that is `ahead` of ours. */
function trip(asked: number, there: number, back: number, ahead: number): RoundTrip {
  const got = asked + there + ahead;
  return { asked, got, gave: got + 0.001, answered: asked + there + 0.001 + back };
}

function near(actual: number | undefined, expected: number): void {
  assert.ok(actual !== undefined && Math.abs(actual - expected) < 1e-9, `${actual} is not ${expected}`);
}

test("an even round trip shows the offset exactly, and is sure to half its length", () => {
  const found = offsetOf(trip(100, 0.02, 0.02, 7));
  near(found?.offset, 7);
  near(found?.error, 0.02);
});

test("an uneven round trip is off by no more than it says", () => {
  const found = offsetOf(trip(100, 0.09, 0.01, -3));
  assert.ok(found && Math.abs(found.offset + 3) <= found.error + 1e-9);
});

test("the quickest of several is believed", () => {
  const found = quickest([trip(1, 0.2, 0.01, 5), trip(2, 0.01, 0.01, 5), trip(3, 0.01, 0.3, 5)]);
  near(found?.offset, 5);
  near(found?.error, 0.01);
});

test("times that contradict one another show nothing", () => {
  assert.equal(offsetOf({ asked: 10, answered: 10.1, got: 3, gave: 4 }), null);
  assert.equal(offsetOf({ asked: 10, answered: 10.1, got: Number.NaN, gave: 4 }), null);
  assert.equal(quickest([]), null);
});

test("an answer that isn't one is no answer", () => {
  assert.deepEqual(readAnswer('{"t0": 1, "t1": 2, "t2": 3}'), { got: 2, gave: 3 });
  assert.equal(readAnswer('{"t1": "2", "t2": 3}'), null);
  assert.equal(readAnswer("oops"), null);
});

/** A world whose agent's clock is `ahead` and whose every round trip takes what `travel` says. */
function world(ahead: () => number, travel: () => number) {
  const state = { now: 1000, asks: 0 };
  const clock = new AgentClock({
    now: () => state.now,
    sleep: async (seconds) => void (state.now += seconds),
    ask: async () => {
      state.asks++;
      state.now += travel() / 2;
      const at = state.now + ahead();
      state.now += travel() / 2;
      return JSON.stringify({ t0: 0, t1: at, t2: at });
    },
  });
  return { clock, state };
}

test("an estimate grows unsure with age and is renewed by looking again", async () => {
  const { clock, state } = world(() => 4, () => 0.02);
  assert.equal(clock.offset(), null);
  await clock.look();
  near(clock.offset()?.offset, 4);
  const young = clock.offset()?.error ?? 0;
  state.now += 100;
  const old = clock.offset()?.error ?? 0;
  assert.ok(old > young + 0.005);
  await clock.look();
  assert.ok((clock.offset()?.error ?? 1) < old);
});

test("a slow minute doesn't spoil a good estimate, a clock that was set replaces it", async () => {
  let ahead = 4;
  let travel = 0.01;
  const { clock } = world(() => ahead, () => travel);
  await clock.look();
  travel = 0.8;
  await clock.look();
  assert.ok((clock.offset()?.error ?? 1) < 0.01);
  travel = 0.3;
  ahead = 9;
  await clock.look();
  near(clock.offset()?.offset, 9);
});

test("nobody to ask leaves things as they are", async () => {
  const clock = new AgentClock({
    now: () => 1,
    sleep: async () => undefined,
    ask: async () => {
      throw new Error("no such method");
    },
  });
  await clock.look();
  assert.equal(clock.offset(), null);
});
