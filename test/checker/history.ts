/** What the checker records: installs as their writers saw them, and looks as readers did. Times: CLOCK_MONOTONIC, ns. */

/** A distribution's version, or null: not installed. */
export type Value = string | null;

/** One install or uninstall by one installer process. */
export interface Operation {
  id: number;
  writer: string;
  distribution: string;
  /** What is installed when it has succeeded. */
  value: Value;
  /** It may run beside another one on the same distribution, so it may be refused. */
  contended: boolean;
}

export interface Outcome {
  op: number;
  start: number;
  /** When its parent had waited for it. */
  end: number;
  code: number | null;
  signal: number | null;
  hung: boolean;
  /** By the installer itself; null when it was killed, or does not tell. */
  lastWrite: number | null;
  stderr: string;
}

export interface Look {
  /** How it looked: `import`, `walk`, … */
  kind: string;
  /**
   * What kind of process looked: `fork`, `exec`, `sequel` (right behind an installer), `notebook` (the
   * same process looked before the install, too, and is its parent), `fork of a notebook`, or nothing: a long-lived one.
   */
  how?: string;
  pid: number;
  /** The operation of the process's own child: it must see that one, or a later one. */
  after?: number;
  begin: number;
  end: number;
  /** By distribution, then by what was read. A number is a serial. */
  seen: Record<string, Record<string, Value | number>>;
  errors: [type: string, text: string][];
}

export interface History {
  distributions: readonly string[];
  operations: Map<number, Operation>;
  outcomes: Outcome[];
  looks: Look[];
}

/** The last number of a version is its serial, which no other has. */
export function serialOf(version: string): number {
  return Number(version.slice(version.indexOf('.') + 1));
}
