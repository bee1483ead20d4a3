/**
 * The verifier's end of its channel to the server. Blocking: a tree is read with synchronous calls, and there is nothing
 * else to do until the answer is there.
 */
import { readSync, writeSync } from 'node:fs';
import { encodeFrame, readFrame } from '../util/frames.js';
import type { Answer, FromVerifier, Job, Question } from './protocol.js';

export class Channel {
  constructor(private readonly fd: number) {}

  job(): Job {
    return this.#receive() as Job;
  }

  ask(question: Question): Answer {
    this.tell(question);
    const answer = this.#receive() as Answer;
    if ('failed' in answer) throw new Error(answer.failed);
    return answer;
  }

  tell(message: FromVerifier): void {
    const bytes = encodeFrame(message);
    for (let done = 0; done < bytes.length;) done += writeSync(this.fd, bytes, done);
  }

  #receive(): unknown {
    return readFrame((sizeBytes) => this.#read(sizeBytes));
  }

  #read(sizeBytes: number): Buffer {
    const bytes = Buffer.alloc(sizeBytes);
    for (let done = 0; done < sizeBytes;) {
      const count = readSync(this.fd, bytes, done, sizeBytes - done, null);
      if (count === 0) throw new Error('the server is gone');
      done += count;
    }
    return bytes;
  }
}
