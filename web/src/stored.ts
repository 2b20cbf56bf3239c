/** What this browser keeps: the conversation it goes on with, who its user is, their choices, and the server's key. */

const SESSION = "voice-node.session";
const TALKED = "voice-node.talked";
const USER = "voice-node.user";
const PERSONALITY = "voice-node.personality";
const NAME = "voice-node.name";
const MICROPHONE = "voice-node.microphone";
const SPEAKER = "voice-node.speaker";
const PUSH_TO_TALK = "voice-node.push-to-talk";
const SHORTCUTS = "voice-node.shortcuts";
const THEME = "voice-node.theme";
const KEY = "voice-node.key";
const IN_ADDRESS = "session";
const LONGEST_SESSION = 200;

/** Reads and writes survive a browser that refuses storage; things then last as long as the page. */
const memory = new Map<string, string>();

function read(storage: () => Storage, name: string): string | null {
  try {
    return storage().getItem(name);
  } catch {
    return memory.get(name) ?? null;
  }
}

function write(storage: () => Storage, name: string, value: string | null): void {
  try {
    if (value === null) storage().removeItem(name);
    else storage().setItem(name, value);
  } catch {
    if (value === null) memory.delete(name);
    else memory.set(name, value);
  }
}

const lasting = () => window.localStorage;
const passing = () => window.sessionStorage;

/** A name nobody guesses. `crypto.randomUUID` is missing on insecure pages, which still have to say so. */
function fresh(prefix: string): string {
  const bytes = crypto.getRandomValues(new Uint8Array(12));
  return `${prefix}-${Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("")}`;
}

function putIntoAddress(id: string): void {
  const address = new URL(window.location.href);
  if (address.searchParams.get(IN_ADDRESS) === id) return;
  address.searchParams.set(IN_ADDRESS, id);
  window.history.replaceState(null, "", address);
}

/** The conversation to go on with: the address's, else the last one here, else a new one. */
export function session(): string {
  const named = new URL(window.location.href).searchParams.get(IN_ADDRESS)?.slice(0, LONGEST_SESSION).trim();
  const id = named || read(lasting, SESSION) || fresh("talk");
  write(lasting, SESSION, id);
  putIntoAddress(id);
  return id;
}

/** Leave the conversation behind and name a new one. */
export function newSession(): string {
  const id = fresh("talk");
  write(lasting, SESSION, id);
  putIntoAddress(id);
  return id;
}

/** Whether something was said in this conversation before, from this browser. */
export function talkedBefore(id: string): boolean {
  return read(lasting, TALKED) === id;
}

export function noteTalk(id: string): void {
  write(lasting, TALKED, id);
}

/** This browser's user, the same at every visit. */
export function user(): string {
  const known = read(lasting, USER);
  if (known) return known;
  const id = fresh("visitor");
  write(lasting, USER, id);
  return id;
}

export function chosenPersonality(): string | null {
  return read(lasting, PERSONALITY);
}

export function choosePersonality(id: string): void {
  write(lasting, PERSONALITY, id);
}

/** What others in the same conversation are told the user is called. */
export const name = lastingText(NAME);

/** The devices chosen, by the browser's ids; null for the system's own. */
export const microphone = lastingText(MICROPHONE);
export const speaker = lastingText(SPEAKER);

/** Whether the microphone is open only while something is held. */
export const pushToTalk = lastingSwitch(PUSH_TO_TALK, false);

/** Whether single keys do something. */
export const shortcuts = lastingSwitch(SHORTCUTS, true);

/** `light`, `dark`, or null to follow the system. */
export const theme = lastingText(THEME);

interface Kept<Value> {
  get(): Value;
  set(value: Value): void;
}

function lastingText(key: string): Kept<string | null> {
  return { get: () => read(lasting, key), set: (value) => write(lasting, key, value || null) };
}

function lastingSwitch(key: string, usual: boolean): Kept<boolean> {
  return {
    get: () => (read(lasting, key) ?? String(usual)) === "true",
    set: (value) => write(lasting, key, String(value)),
  };
}

/** The server's key, kept until the tab is closed. */
export function apiKey(): string | null {
  return read(passing, KEY);
}

export function keepApiKey(key: string | null): void {
  write(passing, KEY, key);
}
