/**
 * Messages between processes of one program over a stream: a length of four bytes, then the value as V8 serialises it (so
 * that bytes stay bytes). Both ends must be ours: what is read is not validated further.
 */
import { deserialize, serialize } from 'node:v8';

const HEADER_BYTES = 4;
/** A job names every changed path. */
const MAX_FRAME_BYTES = 1 << 30;

export function encodeFrame(value: unknown): Buffer {
  const body = serialize(value);
  const header = Buffer.alloc(HEADER_BYTES);
  header.writeUInt32LE(body.length);
  return Buffer.concat([header, body]);
}

/** For who can wait: `read` gives exactly as many bytes as it is asked for. */
export function readFrame(read: (sizeBytes: number) => Buffer): unknown {
  return deserialize(read(read(HEADER_BYTES).readUInt32LE()));
}

/** Puts chunks together; calls `onValue` for each whole message. */
export class FrameReader {
  #chunks: Buffer[] = [];
  #bytes = 0;

  constructor(private readonly onValue: (value: unknown) => void) {}

  push(chunk: Buffer): void {
    this.#chunks.push(chunk);
    this.#bytes += chunk.length;
    for (let wanted = this.#wanted(); wanted !== null && this.#bytes >= wanted; wanted = this.#wanted()) {
      const all = Buffer.concat(this.#chunks);
      const rest = all.subarray(wanted);
      this.#chunks = rest.length > 0 ? [rest] : [];
      this.#bytes = rest.length;
      this.onValue(deserialize(all.subarray(HEADER_BYTES, wanted)));
    }
  }

  /** Bytes of the next message with its header; null when not even that is there. */
  #wanted(): number | null {
    if (this.#bytes < HEADER_BYTES) return null;
    if (this.#chunks[0]!.length < HEADER_BYTES) this.#chunks = [Buffer.concat(this.#chunks)];
    const wanted = HEADER_BYTES + this.#chunks[0]!.readUInt32LE();
    if (wanted > MAX_FRAME_BYTES) throw new Error(`a message of ${wanted} bytes is too long`);
    return wanted;
  }
}
