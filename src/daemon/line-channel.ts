/** JSON lines over an inherited socket pair, both ways: keeper and server, keeper and command. */
import type { Socket } from 'node:net';
import * as v from 'valibot';
import { MAX_MESSAGE_BYTES } from '../util/limits.js';
import { LineReader } from './line-reader.js';

export class LineChannel<Out> {
  /** `onMessage` gets what fits the schema; anything else closes the channel. */
  constructor(
    private readonly socket: Socket,
    private readonly onClose: () => void,
  ) {
    socket.once('close', () => this.onClose());
    socket.on('error', () => socket.destroy());
  }

  receive<S extends v.GenericSchema>(schema: S, onMessage: (message: v.InferOutput<S>) => void): void {
    const reader = new LineReader(MAX_MESSAGE_BYTES, (line) => onMessage(v.parse(schema, JSON.parse(line))));
    this.socket.on('data', (chunk) => {
      try {
        reader.push(chunk);
      } catch (error) {
        this.socket.destroy(error instanceof Error ? error : undefined);
      }
    });
  }

  send(message: Out): void {
    if (this.socket.writable) this.socket.write(`${JSON.stringify(message)}\n`);
  }

  /** Sends what is still to be sent, then closes. */
  close(): void {
    this.socket.end();
  }
}
