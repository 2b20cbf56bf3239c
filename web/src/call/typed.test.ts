import assert from "node:assert/strict";
import { test } from "node:test";

import { TypedMessages } from "./typed.ts";

function waiting(): TypedMessages {
  const typed = new TypedMessages();
  typed.sent("My name is Mary. ", "agent-1");
  typed.sent("What is my name?", "agent-1");
  return typed;
}

test("what an agent never repeated is owed to the next one, in order, and once", () => {
  const typed = waiting();
  assert.deepEqual(typed.owedTo("agent-1"), []);
  assert.deepEqual(typed.owedTo("agent-2"), ["My name is Mary.", "What is my name?"]);
  assert.deepEqual(typed.owedTo("agent-2"), []);
});

test("what was repeated has arrived", () => {
  const typed = waiting();
  typed.repeated("My name is Mary.");
  typed.repeated("something that was said aloud");
  assert.deepEqual(typed.owedTo("agent-2"), ["What is my name?"]);
});

test("the same message typed twice is owed as often as it wasn't repeated", () => {
  const typed = new TypedMessages();
  typed.sent("Hello.", "agent-1");
  typed.sent("Hello.", "agent-1");
  typed.repeated("Hello.");
  assert.deepEqual(typed.owedTo("agent-2"), ["Hello."]);
});

test("what couldn't be sent stays with whoever typed it, and a call that is over owes nothing", () => {
  const typed = waiting();
  typed.forget("What is my name?");
  assert.deepEqual(typed.owedTo("agent-2"), ["My name is Mary."]);
  typed.forget();
  assert.deepEqual(typed.owedTo("agent-3"), []);
});
