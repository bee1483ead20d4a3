/** Splits a byte stream into lines, each at most `maxBytes` long. Throws when a longer one comes. */
export class LineReader {
  #rest: Buffer[] = [];
  #restBytes = 0;

  constructor(
    private readonly maxBytes: number,
    private readonly onLine: (line: string) => void,
  ) {}

  push(chunk: Buffer): void {
    let from = 0;
    for (let end = chunk.indexOf(0x0a); end >= 0; end = chunk.indexOf(0x0a, from)) {
      const line = Buffer.concat([...this.#rest, chunk.subarray(from, end)]);
      this.#rest = [];
      this.#restBytes = 0;
      from = end + 1;
      if (line.length > this.maxBytes) throw new Error(`a line is longer than ${this.maxBytes} bytes`);
      if (line.length > 0) this.onLine(line.toString('utf8'));
    }
    if (from === chunk.length) return;
    this.#rest.push(from === 0 ? chunk : chunk.subarray(from));
    this.#restBytes += chunk.length - from;
    if (this.#restBytes > this.maxBytes) throw new Error(`a line is longer than ${this.maxBytes} bytes`);
  }
}
