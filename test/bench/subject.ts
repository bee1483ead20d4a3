/** What a thing to be measured has to do: see subjects.ts for those that there are. */

/** Where a subject's copy lies, and where it is seen. */
export interface Place {
  /** The subject's own directory. */
  home: string;
  /** What is measured: `site-packages` of an environment in `home`. */
  site: string;
}

export interface Subject {
  readonly name: string;
  /** In the table and the picture. */
  readonly title: string;
  /** With which options, for the record. */
  readonly how: string;
  /** Null, or why not and what to do. */
  available(): string | null;
  version(): Promise<string>;
  /** Where the copy of the tree is made, before mount(). */
  tree(place: Place): string;
  mount(place: Place): Promise<void>;
  unmount(place: Place): Promise<void>;
  /** What begins a command whose changes are to be one; without it they are written one by one. */
  asOne?(place: Place): readonly string[];
  /** Until everything written is visible to everybody. */
  settle(place: Place): Promise<void>;
  /** Requests so far by opcode; null when it does not count them. */
  requests(place: Place): Promise<Record<string, number> | null>;
  /** Files whose cached pages together hold a file of the tree. */
  cachedIn(place: Place, path: string): Promise<string[]>;
}
