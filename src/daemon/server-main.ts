/** Entry point of the server process: options as one JSON word, descriptors as in server-fds. stderr is the log. */
import * as v from 'valibot';
import { loadBackend, type Backend } from '../fuse/backend.js';
import { disabledFeatures } from '../fuse/native-backend.js';
import { readChain } from '../policy/process-info.js';
import { debugFor } from '../util/debug.js';
import { describe, errorData } from '../util/errors.js';
import { outliveStderr } from '../util/stderr.js';
import { KeeperLink } from './keeper-link.js';
import { mountOptionsSchema } from './keeper-protocol.js';
import { createLog } from './log.js';
import { SERVER_FDS } from './server-fds.js';
import { runServer } from './server.js';
import { createVerify } from './verification.js';

/** Standard error. */
const LOG_FD = 2;

outliveStderr();
process.chdir('/');
process.umask(0o077);
// Ctrl-C in the foreground reaches the whole group; the keeper decides what it means.
for (const signal of ['SIGINT', 'SIGHUP'] as const) process.on(signal, () => undefined);

const mount = v.parse(mountOptionsSchema, JSON.parse(process.argv[2] ?? 'null'));
const log = createLog(LOG_FD, 'server');
let backend: Backend | null = null;
const keeper = new KeeperLink(SERVER_FDS.keeper, () => backend!, mount.directory);
let code: number;
try {
  backend = await loadBackend(mount.backend);
  // Everything is loaded by now. Nothing of the store may be touched before: the keeper is at work on it.
  const { filesUnchecked } = await keeper.mounted;
  const deviceFd = backend.receiveDescriptor(SERVER_FDS.handover);
  // Held, never used: the store stays locked as long as anybody serves it.
  backend.receiveDescriptor(SERVER_FDS.handover);
  code = await runServer({
    mount,
    deviceFd,
    filesUnchecked,
    backend,
    disable: disabledFeatures(),
    keeper,
    readChain: (pid) => readChain(pid, new Set([process.pid, process.ppid])),
    createVerify: (engine) => createVerify({ engine, mount, logFd: LOG_FD }),
    log,
  });
} catch (error) {
  log(`error: ${describe(error)}`);
  debugFor('server')('%O', error);
  const data = errorData(error);
  keeper.send({ type: 'failed', error: data });
  code = data.exitCode;
}
keeper.close();
process.exitCode = code;
// Answers on their way out are given a moment; whatever else still holds the event loop is not waited for.
setTimeout(() => process.exit(code), 3_000).unref();
