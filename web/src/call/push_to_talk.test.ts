import assert from "node:assert/strict";
import { test } from "node:test";

import { gate, isOpen, letGo, pressed, released, TAIL, withMuted, withPushToTalk } from "./push_to_talk.ts";

test("without push-to-talk the microphone is open unless muted", () => {
  const open = gate(false);
  assert.equal(isOpen(open, 0), true);
  const muted = withMuted(open, true);
  assert.equal(isOpen(muted, 0), false);
  assert.equal(isOpen(withMuted(muted, false), 0), true);
  assert.equal(isOpen(pressed(muted, "key"), 0), false);
});

test("with push-to-talk it is open while held, and a moment longer", () => {
  let now = gate(true);
  assert.equal(isOpen(now, 0), false);
  now = pressed(now, "key");
  assert.equal(isOpen(now, 5000), true);
  now = released(now, "key", 5000);
  assert.equal(isOpen(now, 5000 + TAIL - 1), true);
  assert.equal(isOpen(now, 5000 + TAIL), false);
});

test("a key that repeats is let go once", () => {
  const now = released(pressed(pressed(gate(true), "key"), "key"), "key", 100);
  assert.equal(isOpen(now, 100 + TAIL), false);
});

test("key and button held together are both let go before it closes", () => {
  const both = pressed(pressed(gate(true), "key"), "pointer");
  const one = released(both, "key", 100);
  assert.equal(isOpen(one, 100_000), true);
  assert.equal(isOpen(released(one, "pointer", 200), 200 + TAIL), false);
});

test("a window that loses the keyboard lets everything go", () => {
  const now = letGo(pressed(pressed(gate(true), "key"), "latch"), 100);
  assert.equal(isOpen(now, 100 + TAIL), false);
});

test("letting go of what wasn't held opens nothing", () => {
  assert.equal(isOpen(released(gate(true), "key", 100), 101), false);
});

test("another way of talking begins afresh", () => {
  assert.equal(isOpen(withPushToTalk(withMuted(gate(false), true), true), 0), false);
  assert.equal(isOpen(withPushToTalk(pressed(gate(true), "key"), false), 0), true);
  const same = gate(true);
  assert.equal(withPushToTalk(same, true), same);
  assert.equal(withMuted(same, true), same);
});
