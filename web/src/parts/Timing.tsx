/** Where the time of each turn went: the newest in one bar beside the state, all of them step by step on request. */

import { useId } from "react";

import { delayOf, inOneBar, percent, type Stage, type Step, type TurnRecord, waterfallOf } from "../call/waterfall.ts";

const NAMES: Record<Stage, string> = {
  commit: "Your turn is over",
  transcript: "Words understood",
  first_token: "Answer begun",
  first_audio: "First sound ready",
  sent: "Sent",
  heard: "Heard by you",
};

interface Props {
  readonly turns: readonly TurnRecord[];
  readonly open: boolean;
}

export function Timing({ turns, open }: Props) {
  const newest = turns.findLast((turn) => delayOf(turn) !== null);
  if (!newest) return null;
  const earlier = turns.filter((turn) => turn !== newest && delayOf(turn) !== null).toReversed();
  return (
    <details className="timing" data-testid="timing" open={open}>
      <summary>
        <span className="delay" data-testid="delay">
          Answered in <strong>{seconds(Math.max(0, delayOf(newest) ?? 0))}</strong>
        </span>
        <OneBar record={newest} />
        <span className="unseen">, show where the time went</span>
      </summary>
      <Turn record={newest} />
      {earlier.length > 0 && (
        <details className="earlier" data-testid="earlier-turns">
          <summary>{earlier.length === 1 ? "The turn before" : `The ${earlier.length} turns before`}</summary>
          {/* Focusable, so that the keyboard can scroll it. */}
          {/* oxlint-disable-next-line jsx-a11y/no-noninteractive-tabindex */}
          <section className="earlier-list" tabIndex={0} aria-label="Earlier turns">
            {earlier.map((record) => (
              <Turn key={`${record.turn}/${record.speech_end}`} record={record} />
            ))}
          </section>
        </details>
      )}
    </details>
  );
}

function OneBar({ record }: { record: TurnRecord }) {
  const path = inOneBar(record);
  const total = path.at(-1)?.to ?? 0;
  return (
    <span className="one-bar" aria-hidden="true">
      {path.map((step) => (
        <i key={step.stage} data-stage={step.stage} style={{ flexGrow: (step.to - step.from) / total }} />
      ))}
    </span>
  );
}

/** One turn as a table: words and numbers for everybody, bars beside them for the eye. */
function Turn({ record }: { record: TurnRecord }) {
  const drawn = waterfallOf(record);
  const id = useId();
  if (!drawn) return null;
  const zero = { left: `${percent(drawn, 0)}%` };
  return (
    <table className="turn" data-testid="turn" data-turn={record.turn} aria-labelledby={id}>
      <caption id={id}>
        Turn {record.turn}: {drawn.measured} <strong>{seconds(drawn.total)}</strong> after you stopped speaking
      </caption>
      <thead className="unseen">
        <tr>
          <th scope="col">Step</th>
          <th scope="col">Reached</th>
          <th scope="col">Picture</th>
        </tr>
      </thead>
      <tbody>
        {drawn.steps.map((step) => (
          <tr key={step.stage} data-stage={step.stage} data-waited={step.waited}>
            <th scope="row">{NAMES[step.stage]}</th>
            <td className="offset">
              {signed(step.to)}
              <span className="unseen">{step.to < 0 ? " before you had finished" : ""}</span>
            </td>
            <td className="lane" aria-hidden="true">
              <span className="track">
                <u style={zero} />
                <i style={place(step, (offset) => percent(drawn, offset))} />
              </span>
            </td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}

function place(step: Step, at: (offset: number) => number) {
  return { left: `${at(step.from)}%`, width: `${at(step.to) - at(step.from)}%` };
}

function seconds(value: number): string {
  return `${value.toFixed(2).replace("-", "−")} s`;
}

function signed(value: number): string {
  return value > 0 ? `+${seconds(value)}` : seconds(value === 0 ? 0 : value);
}
