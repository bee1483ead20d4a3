/** Entry point of the keeper process: options as one JSON word, descriptor 3 tells the command that started it. */
import { Socket } from 'node:net';
import * as v from 'valibot';
import { errorData } from '../util/errors.js';
import { outliveStderr } from '../util/stderr.js';
import { mountOptionsSchema, type StartMessage } from './keeper-protocol.js';
import { runKeeper } from './keeper.js';
import { LineChannel } from './line-channel.js';

const STATUS_FD = 3;

outliveStderr();
process.chdir('/');
process.umask(0o077);
const options = v.parse(mountOptionsSchema, JSON.parse(process.argv[2] ?? 'null'));
const status = new LineChannel<StartMessage>(
  new Socket({ fd: STATUS_FD, readable: true, writable: true }),
  () => undefined,
);
try {
  process.exitCode = await runKeeper(
    options,
    {
      progress: (text) => status.send({ type: 'progress', text }),
      notice: (text) => status.send({ type: 'notice', text }),
    },
    () => {
      status.send({ type: 'ready' });
      status.close();
    },
  );
} catch (error) {
  const data = errorData(error);
  status.send({ type: 'failed', error: data });
  status.close();
  process.exitCode = data.exitCode;
}
