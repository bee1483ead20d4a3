/**
 * Entry point of a verifier: one process for one verification, started by the server (daemon/verification), which makes it an
 * observer of the transaction before it sends the job. So a check that takes long, or a package that breaks the checker,
 * is no matter of the process that serves the mount.
 */
import type { Socket } from 'node:net';
import { describe } from '../util/errors.js';
import { outliveStderr } from '../util/stderr.js';
import { Channel } from './channel.js';
import { CHANNEL_FD } from './protocol.js';
import { treeBefore } from './trees.js';
import { verifyJob } from './verify-job.js';

outliveStderr();
process.chdir('/');
process.umask(0o077);
// Ctrl-C in the foreground reaches the whole group; the server decides what it means.
for (const signal of ['SIGINT', 'SIGHUP'] as const) process.on(signal, () => undefined);

// A pipe of which the server has the other end: nobody reads the channel while a sandbox is waited for, and without its
// server a verifier has nobody to tell. What it has started ends with it.
process.stdin.once('close', () => process.exit(1)).resume();
(process.stdin as Socket).unref();

const channel = new Channel(CHANNEL_FD);
channel.tell({ tell: 'ready' });
try {
  const report = await verifyJob(channel.job(), {
    before: treeBefore(channel),
    observe: (pid, view) => void channel.ask({ ask: 'observe', pid, view }),
    onCheck: (name) => channel.tell({ tell: 'check', name }),
  });
  channel.tell({ tell: 'done', report });
} catch (error) {
  channel.tell({ tell: 'failed', reason: describe(error) });
  process.exitCode = 1;
}
