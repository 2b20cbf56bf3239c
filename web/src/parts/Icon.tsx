/** The page's icons: strokes on a 20-unit grid, named by what they mean. */

const PATHS = {
  microphone: "M10 2.5a2.5 2.5 0 0 1 2.5 2.5v4.5a2.5 2.5 0 0 1-5 0V5A2.5 2.5 0 0 1 10 2.5ZM4.5 9.5a5.5 5.5 0 0 0 11 0M10 15v2.5",
  muted: "M12.5 8V5a2.5 2.5 0 0 0-4.9-.7M7.5 7.5v2a2.5 2.5 0 0 0 4 2M4.5 9.5a5.5 5.5 0 0 0 9.2 4M15.4 10.4l.1-.9M10 15v2.5M3 2.5l14 15",
  end: "M3.2 12.6c-.9-.9-.9-2.3 0-3.2a9.7 9.7 0 0 1 13.6 0c.9.9.9 2.3 0 3.2l-.5.5-3-1.4.1-2a7.5 7.5 0 0 0-6.8 0l.1 2-3 1.4Z",
  settings: "M3 6h7M14 6h3M3 14h3M10 14h7M12 4v4M8 12v4",
  help: "M7.4 7.3a2.7 2.7 0 1 1 3.9 2.5c-.8.4-1.3.9-1.3 1.9M10 14.6v.1M10 2a8 8 0 1 1 0 16 8 8 0 0 1 0-16Z",
  close: "M5 5l10 10M15 5 5 15",
  light: "M10 6.5a3.5 3.5 0 1 1 0 7 3.5 3.5 0 0 1 0-7ZM10 1.8v1.4M10 16.8v1.4M1.8 10h1.4M16.8 10h1.4M4.2 4.2l1 1M14.8 14.8l1 1M4.2 15.8l1-1M14.8 5.2l1-1",
  dark: "M16.5 12.2A7 7 0 0 1 7.8 3.5a7 7 0 1 0 8.7 8.7Z",
  system: "M10 2.5a7.5 7.5 0 1 1 0 15ZM10 2.5a7.5 7.5 0 0 0 0 15",
  add: "M10 4v12M4 10h12",
  send: "M10 16V4.5M5 9.5l5-5 5 5",
  sound: "M3.5 8v4h3l4 3.2V4.8L6.5 8ZM13.5 7.5a3.5 3.5 0 0 1 0 5M15.7 5.2a6.8 6.8 0 0 1 0 9.6",
  chevron: "M5.5 8l4.5 4.5L14.5 8",
} as const;

export function Icon({ name }: { name: keyof typeof PATHS }) {
  return (
    <svg className="icon" viewBox="0 0 20 20" aria-hidden="true" data-icon={name}>
      <path d={PATHS[name]} />
    </svg>
  );
}
