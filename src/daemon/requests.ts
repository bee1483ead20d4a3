/** What the server does for each method of the control protocol. Called by control-server. */
import type { Backend, Engine, SessionInfo } from '../fuse/backend.js';
import type { Store } from '../store/store.js';
import type { Transaction } from '../txn/transaction.js';
import { describeTransaction } from '../txn/transaction.js';
import type { CommitOptions, Transactions } from '../txn/transactions.js';
import { SiteswapError } from '../util/errors.js';
import { holdsWithin } from '../util/holds-within.js';
import { packageVersion } from '../util/package-root.js';
import type { Params, Progress, Request, Result, TransactionStatus } from './control-protocol.js';
import type { MountOptions } from './keeper-protocol.js';
import { copiesAmong } from './mount-copies.js';
import { listMounts } from './mountinfo.js';
import { describeProcess } from './processes.js';

/** `unmount` waits so long for a transaction that is about to end. */
const UNMOUNT_PATIENCE_MS = 10_000;
/** `unmount --force` waits so long for processes of dropped transactions, which meet errors from then on. */
const DROPPED_PATIENCE_MS = 5_000;

export interface RequestContext {
  options: MountOptions;
  store: Store;
  backend: Backend;
  engine: Engine;
  session: SessionInfo;
  transactions: Transactions;
  /** An older generation is served: nothing may be changed. */
  readOnly: boolean;
  health: () => string[];
  unmount: (lazy: boolean) => Promise<void>;
  /** Ends the session if it goes on although it is unmounted: copies of the mount are cut off. */
  cutOff: () => void;
}

export async function handleRequest(
  context: RequestContext,
  request: Request,
  onEvent: (event: Progress) => void,
): Promise<unknown> {
  switch (request.method) {
    case 'status':
      return status(context);
    case 'begin':
      return begin(context, request.params);
    case 'commit':
      return commit(context, request.params, onEvent);
    case 'verify':
      return verify(context, request.params, onEvent);
    case 'observe':
      return observe(context, request.params);
    case 'abort':
      return abort(context, request.params);
    case 'wait':
      await context.transactions.settled(request.params.timeoutMs);
      return { generation: context.store.head } satisfies Result<'wait'>;
    case 'log':
      return log(context, request.params);
    case 'unmount':
      return unmount(context, request.params);
  }
}

function status({ options, store, backend, engine, session, transactions, health }: RequestContext): Result<'status'> {
  return {
    mountpoint: options.directory,
    store: options.store,
    generation: options.generation ?? store.head,
    transactions: transactions.list().map((transaction) => transactionStatus(engine, transaction)),
    pins: engine.pins().map((pin) => ({ ...pin, command: describeProcess(pin.pid)?.command.join(' ') ?? '' })),
    health: health(),
    features: session.features,
    kernel: { minor: session.minor },
    counters: engine.counters(),
    backend: backend.name,
    commit: options.commit,
    serverPid: process.pid,
    version: packageVersion(),
  };
}

function transactionStatus(engine: Engine, transaction: Transaction): TransactionStatus {
  const { id, state, command, pid, base, step, reason } = transaction;
  const common = { id, state, command: [...command], rootPid: pid, base, step, reason };
  try {
    const { members, mutations } = engine.transactionInfo(id);
    return { ...common, members, mutations };
  } catch (error) {
    // Published a moment ago, and not yet tidied away.
    if (state !== 'committing') throw error;
    return { ...common, members: [], mutations: 0 };
  }
}

async function begin(context: RequestContext, params: Params<'begin'>): Promise<Result<'begin'>> {
  if (context.readOnly) {
    throw new SiteswapError('BUSY', 'an older generation is mounted, read-only', 'Mount again without --generation.');
  }
  const process = describeProcess(params.pid);
  if (process === null) {
    throw new SiteswapError('NO_TRANSACTION', `there is no process ${params.pid}`, 'Give a live one with --pid.');
  }
  if (context.transactions.hasRoot(params.pid)) {
    throw new SiteswapError('BUSY', `process ${params.pid} has a transaction already`, 'See `siteswap status`.');
  }
  const transaction = await context.transactions.begin({
    pid: params.pid,
    uid: process.uid,
    gid: process.gid,
    command: params.command ?? process.command,
    // Whoever asks for the commit is told by its answer.
    terminal: null,
    when: 'explicit',
  });
  return { transaction: transaction.id, token: transaction.token ?? '' };
}

function commit(
  { transactions }: RequestContext,
  { transaction, force = false, commands = [] }: Params<'commit'>,
  onEvent: (event: Progress) => void,
): Promise<Result<'commit'>> {
  const id =
    transaction ??
    theOnly(
      transactions.list().filter(({ state, when }) => {
        if (state === 'refused') return force;
        return state === 'staged' || (state === 'open' && when === 'explicit');
      }),
      'commit',
    );
  return transactions.commit(id, { force, commands, onStep: stepsTo(onEvent) });
}

function stepsTo(onEvent: (event: Progress) => void): NonNullable<CommitOptions['onStep']> {
  return (name, transaction, detail) =>
    onEvent({ type: 'step', transaction, name, ...(detail !== undefined && { detail }) });
}

async function verify(
  { transactions }: RequestContext,
  { transaction, commands = [] }: Params<'verify'>,
  onEvent: (event: Progress) => void,
): Promise<Result<'verify'>> {
  const id = transaction ?? theOnly(transactions.list().filter(isKept), 'verify');
  const { findings, checks } = await transactions.verify(id, { commands, onStep: stepsTo(onEvent) });
  return { transaction: id, findings, checks };
}

function observe({ transactions, engine, options }: RequestContext, params: Params<'observe'>): Result<'observe'> {
  const kept = transactions.list().filter(isKept);
  const id = params.transaction ?? theOnly(kept, 'shell');
  if (!kept.some((transaction) => transaction.id === id)) {
    throw new SiteswapError('NO_TRANSACTION', `no transaction ${id} was refused or staged`, 'See `siteswap status`.');
  }
  engine.observe({ view: { transaction: id }, pid: params.pid });
  return { transaction: id, mountpoint: options.directory };
}

function isKept({ state }: Transaction): boolean {
  return state === 'refused' || state === 'staged';
}

async function log({ store, transactions }: RequestContext, { limit }: Params<'log'>): Promise<Result<'log'>> {
  const refused = transactions.list().filter(({ state }) => state === 'refused');
  return {
    generations: await store.history(limit),
    refused: refused.map(({ id, command, reason }) => ({ id, command: [...command], reason })),
  };
}

async function abort({ transactions }: RequestContext, params: Params<'abort'>): Promise<Result<'abort'>> {
  const id =
    params.transaction ??
    theOnly(
      transactions.list().filter(({ state }) => state !== 'committing'),
      'abort',
    );
  await transactions.abort(id);
  return { transaction: id };
}

/** Without a number, there must be exactly one that can be meant. */
function theOnly(candidates: Transaction[], verb: string): number {
  const [first, ...others] = candidates;
  if (first && others.length === 0) return first.id;
  if (!first) throw new SiteswapError('NO_TRANSACTION', `there is no transaction to ${verb}`, 'See `siteswap status`.');
  throw new SiteswapError(
    'NO_TRANSACTION',
    `more than one transaction can be meant: ${candidates.map(describeTransaction).join(', ')}`,
    `Say which: \`siteswap ${verb} DIR ID\`.`,
  );
}

async function unmount(context: RequestContext, { force, lazy }: Params<'unmount'>): Promise<Result<'unmount'>> {
  const { transactions, options } = context;
  let remaining: number[] = [];
  if (force) {
    // What they wrote after the mount is gone would land in the original.
    remaining = await whoOutlives(await transactions.abortOpen(), DROPPED_PATIENCE_MS);
  } else {
    if (!lazy) refuseCopies(options);
    const open = await transactions.stillOpen(UNMOUNT_PATIENCE_MS);
    if (open.length > 0) {
      throw new SiteswapError(
        'BUSY',
        `still open: ${open.map(describeTransaction).join(', ')}`,
        'Wait for it with `siteswap wait`, or drop it with `siteswap unmount --force`.',
      );
    }
  }
  const lost = await transactions.saveKept();
  if (lost.length > 0 && !force) {
    throw new SiteswapError(
      'STORE_IO',
      lost.join('; '),
      'Free space on the disk of the store; or lose what is kept with `siteswap unmount --force`.',
    );
  }
  try {
    await context.unmount(lazy);
  } catch (error) {
    // It was unmounted before, and other copies of it were not.
    if (!force || isMounted(options)) throw error;
  }
  if (force && !lazy) context.cutOff();
  return { remaining, lost };
}

/** Those of these processes that have not ended in time. */
async function whoOutlives(pids: readonly number[], timeoutMs: number): Promise<number[]> {
  // A zombie has no command line any more.
  const running = (): number[] => pids.filter((pid) => (describeProcess(pid)?.command.length ?? 0) > 0);
  await holdsWithin(() => running().length === 0, timeoutMs);
  return running();
}

/** This process sees the mounts that the keeper does. */
function refuseCopies({ directory, store }: MountOptions): void {
  const copies = copiesAmong(listMounts(), { directory, store });
  if (copies.length === 0) return;
  throw new SiteswapError(
    'BUSY',
    `${directory} is also mounted over ${copies.join(', ')} (a bind mount), and would be served on there`,
    `Take that away first (\`umount ${copies.at(-1)}\`), or cut it off with \`siteswap unmount --force ${directory}\`.`,
  );
}

function isMounted({ directory, store }: MountOptions): boolean {
  return listMounts().some((mount) => mount.mountpoint === directory && mount.store === store);
}
