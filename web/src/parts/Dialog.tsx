/** A modal dialog of the browser's own: it keeps the focus, closes with Escape, and gives the focus back. */

import { type MouseEvent, type ReactNode, useEffect, useId, useRef } from "react";

import { Icon } from "./Icon.tsx";

interface Props {
  readonly title: string;
  readonly testId: string;
  readonly onClose: () => void;
  readonly children: ReactNode;
}

/** Open for as long as it is rendered. */
export function Dialog({ title, testId, onClose, children }: Props) {
  const box = useRef<HTMLDialogElement>(null);
  const titleId = useId();

  useEffect(() => {
    const element = box.current;
    const before = document.activeElement;
    element?.showModal();
    return () => {
      element?.close();
      if (before instanceof HTMLElement) before.focus();
    };
  }, []);

  const closeOutside = (event: MouseEvent) => {
    if (event.target === box.current) onClose();
  };

  return (
    // The keyboard closes it by Escape; a click beside it is the pointer's way.
    // oxlint-disable-next-line jsx-a11y/click-events-have-key-events, jsx-a11y/no-noninteractive-element-interactions
    <dialog ref={box} className="dialog" data-testid={testId} aria-labelledby={titleId} onClose={onClose} onClick={closeOutside}>
      <div className="dialog-box">
        <header className="dialog-head">
          <h2 id={titleId}>{title}</h2>
          <button type="button" className="round" aria-label="Close" data-testid="close" onClick={onClose}>
            <Icon name="close" />
          </button>
        </header>
        {children}
      </div>
    </dialog>
  );
}
