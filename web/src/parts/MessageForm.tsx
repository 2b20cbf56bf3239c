/** A message typed instead of spoken. */

import { type SyntheticEvent, useId, useState } from "react";

import { Icon } from "./Icon.tsx";

interface Props {
  readonly enabled: boolean;
  /** Gives whether the message went out. */
  readonly onSend: (text: string) => Promise<boolean>;
}

export function MessageForm({ enabled, onSend }: Props) {
  const [text, setText] = useState("");
  const id = useId();
  const send = async (event: SyntheticEvent) => {
    event.preventDefault();
    const message = text.trim();
    if (!message || !enabled) return;
    setText("");
    if (!(await onSend(message))) setText((typed) => typed || message);
  };
  return (
    <form className="line message" onSubmit={(event) => void send(event)}>
      <label className="unseen" htmlFor={id}>
        Message to the agent
      </label>
      <input
        id={id}
        type="text"
        autoComplete="off"
        enterKeyHint="send"
        maxLength={4000}
        placeholder="Or type a message"
        data-testid="message"
        value={text}
        onChange={(event) => setText(event.target.value)}
      />
      <button type="submit" className="round send" data-testid="send" aria-label="Send" disabled={!enabled || !text.trim()}>
        <Icon name="send" />
      </button>
    </form>
  );
}
