/** Membership by token: who carries SITESWAP_TRANSACTION in its environment works in that transaction, whoever it descends from. */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { test } from 'node:test';
import { ControlClient } from '../../src/daemon/control-client.js';
import { defaultStorePath } from '../../src/store/layout.js';
import { mountedVenv } from '../helpers/mounted-venv.js';

const TIMEOUT_MS = 60_000;

test(
  'a shell that has looked before exports a token, and replaces itself by a program, which is a member',
  { timeout: TIMEOUT_MS },
  async (t) => {
    const mounted = await mountedVenv(t, { pip: false });
    const daemon = await ControlClient.connect(defaultStorePath(mounted.site));
    t.after(() => daemon.close());
    const root = mounted.start('/bin/sleep', ['1000']);
    const shell = mounted.start('/bin/sh', []);
    const lines = createInterface({ input: shell.stdout! })[Symbol.asyncIterator]();
    const say = async (line: string): Promise<string> => {
      shell.stdin!.write(`${line}\n`);
      return (await lines.next()).value as string;
    };
    // It stands there and has listed it.
    await say(`cd '${mounted.site}'; echo *`);
    const { transaction, token } = await daemon.request('begin', { pid: root.pid!, explicit: true });
    // Looked at while the transaction is open: known as no member of it.
    await say('echo *');
    const write = "open('by-path.py', 'w').close(); open('token.py', 'w').write('N = 1'); print('written', flush=True)";
    assert.equal(
      await say(`export SITESWAP_TRANSACTION=${token}; exec '${mounted.python}' -S -c "${write}"`),
      'written',
    );
    const { transactions } = await daemon.request('status', {});
    assert.deepEqual(
      transactions.map(({ id }) => id),
      [transaction],
      'it began one of its own',
    );
    assert.ok(!(await mounted.listing()).has('token.py'), 'nobody sees it before the commit');
    await daemon.request('commit', { transaction });
    assert.ok((await mounted.listing()).has('token.py'));
    assert.equal(await mounted.must('/bin/cat', join(mounted.site, 'token.py')), 'N = 1');
    assert.equal((await daemon.request('status', {})).generation, 1);
    await mounted.unmount();
  },
);
