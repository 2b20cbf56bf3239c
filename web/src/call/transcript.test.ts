import assert from "node:assert/strict";
import { test } from "node:test";

import { withAllFinal, withWords, type Segment, type Words } from "./transcript.ts";

function words(id: string, text: string, stream: number, final = false, role: "user" | "agent" = "user"): Words {
  return { id, role, speaker: null, text, final, stream };
}

function said(...all: Words[]): readonly Segment[] {
  return all.reduce<readonly Segment[]>(withWords, []);
}

test("interim words of a segment are replaced by later ones and by the final ones", () => {
  const segments = said(words("a", "what", 1), words("a", "what is", 2), words("a", "What is it?", 3, true));
  assert.deepEqual(segments, [words("a", "What is it?", 3, true)]);
});

test("turns keep the order in which they began", () => {
  const segments = said(words("a", "hello", 1, true), words("b", "Hi", 2, false, "agent"), words("a", "hello!", 3, true));
  assert.deepEqual(segments.map((segment) => segment.text), ["hello!", "Hi"]);
});

test("a late piece of an older stream changes nothing", () => {
  const segments = said(words("b", "Once upon", 4, true, "agent"), words("b", "Once upon a time", 2, false, "agent"));
  assert.equal(segments[0]?.text, "Once upon");
});

test("a reply that was cut before its first word disappears", () => {
  assert.deepEqual(said(words("b", "Well", 1, false, "agent"), words("b", "", 2, true, "agent")), []);
  assert.deepEqual(said(words("b", " ", 1)), []);
});

test("the same words twice leave the transcript as it is", () => {
  const before = said(words("a", "hello", 1));
  assert.equal(withWords(before, words("a", "hello", 1)), before);
});

test("an agent that left says no more", () => {
  const before = said(words("a", "hello", 1), words("b", "Hi th", 2, false, "agent"));
  const after = withAllFinal(before, "agent");
  assert.deepEqual(after.map((segment) => segment.final), [false, true]);
  assert.equal(withAllFinal(after, "agent"), after);
});

test("what was begun under one name isn't ascribed to another", () => {
  const nova = { ...words("b", "Hi", 1, false, "agent"), speaker: "Nova" };
  const segments = said(nova, { ...words("b", "Hi there", 2, true, "agent"), speaker: "Juno" });
  assert.deepEqual(segments.map((segment) => [segment.speaker, segment.text]), [["Nova", "Hi there"]]);
});
