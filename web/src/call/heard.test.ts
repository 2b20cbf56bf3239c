import assert from "node:assert/strict";
import { test } from "node:test";

import { HeardTurns } from "./heard.ts";

function listening() {
  const heard: [number, number][] = [];
  return { turns: new HeardTurns((turn, at) => heard.push([turn, at])), heard };
}

test("the first sound after an answer was sent is its beginning, whichever is known first", () => {
  const { turns, heard } = listening();
  turns.sent(1, 10);
  turns.sound(10.12);
  turns.silence(11);
  turns.sound(20.1); // known before the agent's word of it
  turns.sent(2, 20);
  assert.deepEqual(heard, [[1, 10.12], [2, 20.1]]);
});

test("what follows a pause within the answer, a greeting and an older sound report nothing", () => {
  const { turns, heard } = listening();
  turns.sound(5);
  turns.silence(6);
  turns.sent(1, 10);
  turns.sound(10.1);
  turns.silence(10.5);
  turns.sound(10.9);
  assert.deepEqual(heard, [[1, 10.1]]);
});

test("a turn sent into sound isn't measured", () => {
  const { turns, heard } = listening();
  turns.sound(9);
  turns.sent(1, 10);
  turns.silence(10.2);
  turns.sound(10.6);
  assert.deepEqual(heard, []);
});

test("a sound that comes far too late is something else", () => {
  const { turns, heard } = listening();
  turns.sent(1, 10);
  turns.sound(14);
  turns.silence(15);
  turns.sound(15.2);
  assert.deepEqual(heard, []);
});

test("clocks that are a little off don't hide the beginning", () => {
  const { turns, heard } = listening();
  turns.sound(9.99);
  turns.sent(1, 10);
  assert.deepEqual(heard, [[1, 9.99]]);
});

test("another agent's turns are not matched with what the one before played", () => {
  const { turns, heard } = listening();
  turns.sound(10.1);
  turns.forget();
  turns.sent(1, 10);
  assert.deepEqual(heard, []);
});
