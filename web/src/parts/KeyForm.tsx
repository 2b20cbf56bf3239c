/** Asks for the server's key, which stays in this tab. */

import { type SyntheticEvent, useId, useState } from "react";

export function KeyForm({ onKey }: { onKey: (key: string) => void }) {
  const [key, setKey] = useState("");
  const id = useId();
  const send = (event: SyntheticEvent) => {
    event.preventDefault();
    if (key.trim()) onKey(key.trim());
  };
  return (
    <form className="line" onSubmit={send}>
      <label className="unseen" htmlFor={id}>
        Server key
      </label>
      <input
        id={id}
        type="password"
        autoComplete="off"
        placeholder="Server key"
        data-testid="key"
        value={key}
        onChange={(event) => setKey(event.target.value)}
      />
      <button type="submit" data-testid="use-key" disabled={!key.trim()}>
        Use key
      </button>
    </form>
  );
}
