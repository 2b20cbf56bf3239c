/** What this browser keeps: the conversation it goes on with, who its user is, their choice, and the server's key. */

const SESSION = "voice-node.session";
const TALKED = "voice-node.talked";
const USER = "voice-node.user";
const PERSONALITY = "voice-node.personality";
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

/** The server's key, kept until the tab is closed. */
export function apiKey(): string | null {
  return read(passing, KEY);
}

export function keepApiKey(key: string | null): void {
  write(passing, KEY, key);
}
